"""What cannot be served says which and why, and hurts nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadstead.embedded.example_model import example_weights
from tests.fixtures.embedded_fleet import EmbeddedFleet

pytestmark = [pytest.mark.integration, pytest.mark.engines]

WRONG = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def _refused_go(fleet: EmbeddedFleet, anchor: str) -> Iterator[None]:
    yield
    refused = ("huge", "corrupt", "cut", "mismatched", "missing", "outside")
    fleet.kubectl("delete", "lm", *refused, "--ignore-not-found", "--timeout=60s")


async def test_a_model_that_fits_nowhere_says_so_with_numbers_within_seconds(fleet: EmbeddedFleet, anchor: str) -> None:
    await fleet.answers(anchor)
    started = time.monotonic()
    fleet.apply("huge", {"q4": fleet.weights.q4}, requirements={"contextTokens": 4_000_000})
    model = await fleet.until_model("huge", "Placed", "InsufficientRAM", seconds=5)
    assert time.monotonic() - started < 5
    message = model.condition("Placed")["message"]
    for node in ("node-a", "node-b"):
        assert f"q4 on {node}: needs" in message
    assert "GiB" in message
    assert "bytes short" in message
    assert model.condition("Ready")["status"] == "False"
    assert model.variant("q4")["verdict"] == "InsufficientRAM"
    assert (await fleet.answers(anchor)).text


async def test_each_bad_source_is_refused_with_its_own_reason_while_others_serve(
    fleet: EmbeddedFleet, anchor: str
) -> None:
    original = example_weights()
    assert original is not None
    models = fleet.home.root / "models"
    (models / "corrupt.gguf").write_bytes(b"this is no model" * 1000)
    _cut(original, models / "cut.gguf")
    fleet.apply("corrupt", {"q4": f"file://{models}/corrupt.gguf"})
    fleet.apply("cut", {"q4": f"file://{models}/cut.gguf"})
    fleet.apply("missing", {"q4": f"file://{models}/nothing-here.gguf"})
    fleet.apply("outside", {"q4": "file:///etc/hostname"})
    ladder = [{"name": "q4", "source": fleet.weights.q4, "digest": WRONG}]
    fleet.apply_spec("mismatched", {"variants": ladder})
    expected = {
        "corrupt": ("CorruptHeader", "corrupt.gguf"),
        "cut": ("CorruptHeader", "cut.gguf"),
        "missing": ("SourceNotFound", "nothing-here.gguf"),
        "outside": ("SourceNotAllowed", "/etc/hostname"),
        "mismatched": ("DigestMismatch", WRONG),
    }
    for name, (reason, word) in expected.items():
        model = await fleet.until_model(name, "Resolved", reason, seconds=20)
        row = model.variant("q4")
        assert row["verdict"] == reason
        assert word in row["message"]
        assert word in model.condition("Ready")["message"]
        assert model.is_true("Stalled")
        assert (await fleet.ask(anchor)).status == 200
    replies = await asyncio.gather(*(fleet.ask(name) for name in expected))
    assert {reply.status for reply in replies} == {404}, "none of them has ever served"


async def test_an_unknown_field_is_refused_by_name(fleet: EmbeddedFleet) -> None:
    ladder = [{"name": "q4", "source": fleet.weights.q4, "qualty": 1}]
    said = fleet.apply_spec("misspelt", {"variants": ladder}, check=False)
    assert 'unknown field "spec.variants[0].qualty"' in said
    assert fleet.model("misspelt") is None


def _cut(source: Path, target: Path) -> None:
    """The header is whole and half of the weights are there, as after a broken download."""
    content = source.read_bytes()
    target.write_bytes(content[: len(content) // 2])
