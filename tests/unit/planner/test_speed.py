"""Tokens a second that a team asks for: kept where they were seen to be given, and never refused on a guess."""

from __future__ import annotations

import pytest

from roadstead.domain.inventory import Device, Vendor
from roadstead.domain.model import ModelSpec, Requirements, VariantSpec
from roadstead.domain.release import Artifact, Content
from roadstead.domain.snapshot import AgentFacts, FleetSnapshot, Known, LedgerFacts
from roadstead.planner.speed import Basis, speed_on, too_slow, wait_on
from roadstead.planner.view import View
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.safetensors_facts import LLAMA_8B, MIXTRAL

LARGE = artifact("large", mebibytes=400, bits=16)
SMALL = artifact("small", mebibytes=80, bits=4.5)
FILES = {"file:///large.gguf": LARGE, "file:///small.gguf": SMALL}
LADDER = tuple(VariantSpec(name=source[8:13], source=source) for source in FILES)


def node(mebibytes: int, *, reads: float = 0, computes: float = 0, bandwidth: float | None = None) -> MemoryNode:
    """``reads`` and ``bandwidth`` are in MiB a second, ``computes`` in weights a second."""
    return MemoryNode(
        budget=mebibytes * MIB,
        files=dict(FILES),
        reads=reads * MIB,
        computes=computes,
        bandwidth=None if bandwidth is None else bandwidth * MIB,
    )


async def test_a_variant_that_is_too_slow_gives_way_to_a_smaller_one_on_the_same_node() -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, reads=4000)})  # large: 10 tokens a second, small: 50
    key = fleet.apply("assistant", *LADDER, min_tokens_per_second=20)

    await fleet.settle()

    assert fleet.running(key) == {"n0": ("small", 1)}
    large = {row.name: row for row in fleet.statuses[key].variants}["large"]
    assert large.verdict.reason == "SpeedBelowRequirement"
    assert "10.0 tokens/s are measured, requirements.minTokensPerSecond is 20" in large.verdict.message


async def test_a_node_where_something_else_was_seen_to_be_slow_is_not_tried() -> None:
    fleet = MemoryFleet(nodes={"slow": node(2000, reads=4000), "fast": node(700, reads=40_000)})
    for name in ("slow", "fast"):
        fleet.apply(f"on-{name}", LADDER[1])
    await fleet.settle()
    key = fleet.apply("assistant", LADDER[0], min_tokens_per_second=20)

    await fleet.settle()

    assert fleet.running(key) == {"fast": ("large", 1)}
    assert "not on slow: 10.0 tokens/s are expected" in fleet.statuses[key].variants[0].verdict.message


async def test_where_nothing_was_measured_nothing_is_refused() -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, reads=0)})
    key = fleet.apply("assistant", *LADDER, min_tokens_per_second=1000)

    await fleet.settle()

    assert fleet.running(key) == {"n0": ("large", 1)}


async def test_what_is_too_slow_everywhere_serves_on_and_says_so() -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, reads=4000), "n1": node(1000, reads=4000)})
    key = fleet.apply("assistant", LADDER[0], min_tokens_per_second=20)

    await fleet.settle()

    assert [ready for _, ready in fleet.running(key).values()] == [1]
    status, reason, message = fleet.condition(key, "Placed")
    assert (status, reason) == ("False", "SpeedBelowRequirement")
    assert "10.0 tokens/s are measured" in message


@pytest.mark.parametrize(("required", "moves"), [(12, False), (13, True)])
async def test_what_serves_moves_only_when_it_is_clearly_slower(required: float, moves: bool) -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, reads=4000)})
    key = fleet.apply("assistant", *LADDER)
    await fleet.settle()
    assert fleet.running(key) == {"n0": ("large", 1)}

    fleet.apply("assistant", *LADDER, min_tokens_per_second=required)
    await fleet.settle()

    assert fleet.running(key) == {"n0": ("small" if moves else "large", 1)}
    assert fleet.release_number(key) == 1


async def test_where_memory_cannot_be_read_fast_enough_nothing_is_started() -> None:
    fleet = MemoryFleet(nodes={"slow": node(2000, bandwidth=4000), "fast": node(700, bandwidth=40_000)})
    key = fleet.apply("assistant", LADDER[0], min_tokens_per_second=20)

    await fleet.settle()

    assert fleet.running(key) == {"fast": ("large", 1)}
    message = fleet.statuses[key].variants[0].verdict.message
    assert "not on slow: 5.7 tokens/s are computed from memory bandwidth and 15.6 possible" in message
    assert "requirements.minTokensPerSecond is 20" in message


async def test_what_is_possible_is_tried_although_less_is_expected_and_then_measured() -> None:
    fleet = MemoryFleet(
        nodes={"n0": node(1000, bandwidth=8000, reads=7600)}
    )  # 11 tokens a second expected, 31 possible
    key = fleet.apply("assistant", LADDER[0], min_tokens_per_second=18)

    await fleet.settle()

    assert fleet.running(key) == {"n0": ("large", 1)}
    assert list(fleet.nodes["n0"].measured.values()) == [19]
    assert fleet.condition(key, "Placed")[0] == "True"


@pytest.mark.parametrize("knowledge", ["of others", "of memory"])
async def test_what_stands_is_moved_by_what_was_measured_of_it_and_by_nothing_else(knowledge: str) -> None:
    fleet = MemoryFleet(nodes={"n0": node(2000), "n1": node(1000)})
    key = fleet.apply("assistant", LADDER[0])
    await fleet.settle()
    assert fleet.running(key) == {"n0": ("large", 1)}
    if knowledge == "of others":
        other = fleet.apply("other", LADDER[1], pools=("local",))
        await fleet.settle()
        (content,) = {app.slot.content.hash for app in fleet.applications.values() if app.slot.model == other}
        fleet.nodes["n0"].measured[content] = 10
    else:
        fleet.nodes["n0"].bandwidth = 1000 * MIB

    fleet.apply("assistant", LADDER[0], min_tokens_per_second=20)
    await fleet.settle()
    assert fleet.running(key) == {"n0": ("large", 1)}

    (content,) = {app.slot.content.hash for app in fleet.applications.values() if app.slot.model == key}
    fleet.nodes["n0"].measured[content] = 10
    await fleet.settle()
    assert fleet.running(key) == {"n1": ("large", 1)}


async def test_a_prompt_that_waits_too_long_sends_a_model_to_a_smaller_variant() -> None:
    """200 million weights of 16 bits, 150 million of 4.5: with 100 billion a second 2.1 and 1.5 s."""
    fleet = MemoryFleet(nodes={"n0": node(1000, computes=1e11)})
    key = fleet.apply("assistant", *LADDER, max_seconds_to_first_token=1.6)

    await fleet.settle()

    assert fleet.running(key) == {"n0": ("small", 1)}
    large = {row.name: row for row in fleet.statuses[key].variants}["large"]
    assert large.verdict.reason == "SpeedBelowRequirement"
    assert "2.1 s to the first token of 1,000 are measured, requirements.maxTimeToFirstToken is 1.6 s" in (
        large.verdict.message
    )


async def test_a_node_where_prompts_of_others_were_seen_to_wait_is_not_tried() -> None:
    fleet = MemoryFleet(nodes={"slow": node(2000, computes=1e10), "fast": node(700, computes=1e12)})
    for name in ("slow", "fast"):
        fleet.apply(f"on-{name}", LADDER[1])
    await fleet.settle()
    key = fleet.apply("assistant", LADDER[0], max_seconds_to_first_token=2)

    await fleet.settle()

    assert fleet.running(key) == {"fast": ("large", 1)}
    assert "not on slow: 21.0 s to the first token" in fleet.statuses[key].variants[0].verdict.message


@pytest.mark.parametrize(("required", "moves"), [(1.7, False), (1.67, True)])
async def test_what_serves_moves_only_when_its_prompts_wait_clearly_longer(required: float, moves: bool) -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, computes=1e11)})
    key = fleet.apply("assistant", *LADDER)
    await fleet.settle()
    assert fleet.running(key) == {"n0": ("large", 1)}

    fleet.apply("assistant", *LADDER, max_seconds_to_first_token=required)
    await fleet.settle()

    assert fleet.running(key) == {"n0": ("small" if moves else "large", 1)}


async def test_where_no_prompt_was_measured_none_is_refused_on_a_host() -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, bandwidth=100)})
    key = fleet.apply("assistant", *LADDER, max_seconds_to_first_token=0.001)

    await fleet.settle()

    assert fleet.running(key) == {"n0": ("large", 1)}


L4 = Device(id="0", vendor=Vendor.NVIDIA, product="NVIDIA-L4", memory_bytes=22 << 30)
LLAMA = Content(
    variant="bf16",
    source="",
    quality=None,
    artifact=Artifact(digest="sha256:0", bytes=LLAMA_8B.tensor_bytes, facts=LLAMA_8B),
    engine="VLLM",
    engine_image="",
    task="Chat",
    served_name="",
    context_tokens=8192,
    concurrency=1,
)
NOBODY = View(
    FleetSnapshot(
        models=(),
        pools=(),
        nodes={},
        releases={},
        routes={},
        agents={},
        cells=(),
        gateways={},
        ledger=Known(LedgerFacts(installation="")),
        resolutions={},
    )
)


def agent(*, speeds: tuple[tuple[str, float], ...] = (), waits: tuple[tuple[str, float], ...] = ()) -> AgentFacts:
    return AgentFacts(
        epoch=1,
        cores=8,
        isa=(),
        budget_bytes=0,
        free_bytes=0,
        disk_free_bytes=0,
        engines=(),
        weights=(),
        leases=(),
        measured_speeds=speeds,
        measured_waits=waits,
        memory_bandwidth=1e9,
        devices=(L4,),
    )


def asks(**required: float) -> ModelSpec:
    return ModelSpec(served_name="", variants=(), requirements=Requirements(**required))  # type: ignore[arg-type]


def test_on_a_device_its_own_memory_and_arithmetic_count_and_not_those_of_the_host() -> None:
    speed, wait = speed_on(LLAMA, agent(), NOBODY, (L4,)), wait_on(LLAMA, agent(), NOBODY, (L4,))

    assert speed is not None
    assert wait is not None
    assert speed.basis is wait.basis is Basis.COMPUTED
    assert speed.value == pytest.approx(12, abs=0.2)
    assert wait.value == pytest.approx(0.3, abs=0.01)
    verdict = too_slow(LLAMA, agent(), asks(min_tokens_per_second=25), NOBODY, (L4,))
    assert verdict is not None
    assert "12.0 tokens/s are computed from memory bandwidth and 20.0 possible" in verdict.message
    verdict = too_slow(LLAMA, agent(), asks(max_seconds_to_first_token=0.1), NOBODY, (L4,))
    assert verdict is not None
    assert "0.3 s to the first token of 1,000 are computed from the device's arithmetic and 0.1 possible" in (
        verdict.message
    )
    assert (
        too_slow(LLAMA, agent(), asks(min_tokens_per_second=18, max_seconds_to_first_token=0.2), NOBODY, (L4,)) is None
    )


def test_what_was_measured_of_a_content_counts_on_a_device_as_well() -> None:
    facts = agent(speeds=((LLAMA.hash, 17.0),), waits=((LLAMA.hash, 0.4),))

    speed, wait = speed_on(LLAMA, facts, NOBODY, (L4,)), wait_on(LLAMA, facts, NOBODY, (L4,))

    assert (speed, wait) == ((17.0, Basis.MEASURED, 17.0), (0.4, Basis.MEASURED, 0.4))


def test_of_a_device_that_nobody_knows_nothing_is_said() -> None:
    unknown = Device(id="1", vendor=Vendor.NVIDIA, product="NVIDIA-Z1", memory_bytes=0)

    for devices in ((unknown,), (L4, unknown)):
        assert speed_on(LLAMA, agent(), NOBODY, devices) is None
        assert wait_on(LLAMA, agent(), NOBODY, devices) is None


def test_a_mixture_of_experts_is_expected_to_read_what_is_active() -> None:
    experts = Content(
        variant="bf16",
        source="",
        quality=None,
        artifact=Artifact(digest="sha256:1", bytes=MIXTRAL.tensor_bytes, facts=MIXTRAL),
        engine="VLLM",
        engine_image="",
        task="Chat",
        served_name="",
        context_tokens=8192,
        concurrency=1,
    )

    dense, mixture = speed_on(LLAMA, agent(), NOBODY, (L4,)), speed_on(experts, agent(), NOBODY, (L4,))

    assert dense is not None
    assert mixture is not None
    assert mixture.value / dense.value == pytest.approx(8.03 / 12.9, rel=0.03)
