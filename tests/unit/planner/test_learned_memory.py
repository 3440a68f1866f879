"""What an engine really held on a node is what the next replica there is expected to need."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.inventory import Device, Vendor
from roadstead.domain.release import Content
from roadstead.domain.snapshot import AgentFacts, Known, Node
from roadstead.planner.needs import need_of
from roadstead.planner.nodes import Seat
from tests.fixtures.memory_fleet import MIB, artifact

CONTENT = Content(
    variant="small",
    source="file:///small.gguf",
    quality=None,
    artifact=artifact("small", mebibytes=80, bits=4.5),
    engine="LlamaCpp",
    engine_image="xllamacpp==1",
    task="Chat",
    served_name="assistant",
    context_tokens=2048,
    concurrency=1,
)
CARD = Device(id="gpu-0", vendor=Vendor.NVIDIA, product="NVIDIA-L4", memory_bytes=24 << 30)


def seat(measured: int | None, *devices: Device) -> Seat:
    facts = AgentFacts(
        epoch=1,
        cores=2,
        isa=(),
        budget_bytes=1024 * MIB,
        free_bytes=1024 * MIB,
        disk_free_bytes=1 << 40,
        engines=(),
        weights=(),
        leases=(),
        measured_bytes=() if measured is None else ((CONTENT.hash, measured),),
        devices=devices,
    )
    return Seat(node=Node(name="node-a", labels=(), ready=True), pool=None, agent=Known(facts), cell=None)


COMPUTED = need_of(CONTENT, seat(None), 0).host


@pytest.mark.parametrize(
    ("measured", "needed"),
    [
        (int(1.2 * COMPUTED), int(1.2 * COMPUTED)),
        (int(0.99 * COMPUTED), int(0.99 * COMPUTED)),
        (int(0.5 * COMPUTED), int(0.98 * COMPUTED)),
    ],
    ids=["more than computed", "a little less", "far less: it has not worked for all its sequences yet"],
)
def test_what_was_measured_counts(measured: int, needed: int) -> None:
    assert need_of(CONTENT, seat(measured), 0).host == needed


def test_on_a_node_with_accelerators_nobody_knows_what_it_was_measured_in() -> None:
    assert need_of(CONTENT, seat(2 * COMPUTED, CARD), 0) == need_of(CONTENT, seat(None, CARD), 0)


def test_what_was_measured_of_another_content_says_nothing() -> None:
    other = replace(CONTENT, context_tokens=512)
    assert need_of(other, seat(2 * COMPUTED), 0) == need_of(other, seat(None), 0)
