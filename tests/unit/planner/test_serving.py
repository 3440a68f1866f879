"""From a LocalModel to answering replicas, and through every change of it, with the whole fleet in memory."""

from __future__ import annotations

import pytest

from roadstead.domain.model import VariantSpec
from roadstead.domain.snapshot import Pool
from tests.fixtures.memory_fleet import ENGINE, MIB, MemoryFleet, MemoryNode, artifact

BIG = artifact("big", mebibytes=500, quantization="BF16", bits=16)
SMALL = artifact("small", mebibytes=100, quantization="Q4_0", bits=4.5)
FILES = {"file:///models/big.gguf": BIG, "file:///models/small.gguf": SMALL}
BIG_VARIANT = VariantSpec(name="bf16", source="file:///models/big.gguf")
SMALL_VARIANT = VariantSpec(name="q4", source="file:///models/small.gguf")


@pytest.fixture
def fleet() -> MemoryFleet:
    """One node with much memory, one with little; both have both files."""
    return MemoryFleet(
        nodes={
            "node-a": MemoryNode(budget=2000 * MIB, files=dict(FILES)),
            "node-b": MemoryNode(budget=400 * MIB, files=dict(FILES)),
        }
    )


async def test_a_model_is_placed_fetched_started_routed_and_reported_ready(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", BIG_VARIANT)

    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("bf16", 1)}
    assert [address.node for address in fleet.routes[key].slots] == ["node-a"]
    assert fleet.condition(key, "Ready")[:2] == ("True", "Serving")
    assert fleet.statuses[key].status == "Ready"
    assert fleet.release_number(key) == 1


async def test_each_node_runs_the_variant_that_suits_it_and_status_says_what_was_refused(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", BIG_VARIANT, SMALL_VARIANT, replicas=2)

    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("bf16", 1), "node-b": ("q4", 1)}
    rows = {row.name: row for row in fleet.statuses[key].variants}
    assert rows["bf16"].verdict.reason == "Chosen"
    assert (
        "not on node-b: needs 616.6 MiB, the node has 400.0 MiB: 227150624 bytes short" in rows["bf16"].verdict.message
    )
    assert rows["q4"].chosen == 1


async def test_given_quality_decides_before_bits_per_weight(fleet: MemoryFleet) -> None:
    best = VariantSpec(name="q4", source=SMALL_VARIANT.source, quality=0.99)
    key = fleet.apply("assistant", VariantSpec(name="bf16", source=BIG_VARIANT.source, quality=0.5), best)

    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("q4", 1)}
    assert {row.name: row.verdict.message for row in fleet.statuses[key].variants}["bf16"].startswith(
        "not on node-a: q4"
    )


async def test_a_model_that_fits_nowhere_says_by_how_many_bytes(fleet: MemoryFleet) -> None:
    huge = artifact("huge", mebibytes=9000)
    for node in fleet.nodes.values():
        node.files["file:///models/huge.gguf"] = huge
    key = fleet.apply("huge", VariantSpec(name="q8", source="file:///models/huge.gguf"))

    await fleet.settle()

    status, reason, message = fleet.condition(key, "Placed")
    assert (status, reason) == ("False", "InsufficientRAM")
    assert "q8 on node-a: needs" in message
    assert "bytes short" in message
    assert fleet.condition(key, "Stalled")[0] == "True"


async def test_replicas_spread_over_nodes_before_they_stack(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=3)

    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("q4", 2), "node-b": ("q4", 1)}


async def test_scaling_changes_only_the_slots_that_gain_or_lose(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    before = set(fleet.applications)

    fleet.apply("assistant", SMALL_VARIANT, replicas=4)
    await fleet.settle()

    assert set(fleet.applications) == before
    assert sum(ready for _, ready in fleet.running(key).values()) == 4
    fleet.apply("assistant", SMALL_VARIANT, replicas=0)
    await fleet.settle()
    assert fleet.applications == {}
    assert fleet.condition(key, "Ready")[:2] == ("True", "ScaledToZero")
    assert fleet.routes[key].slots == ()


async def test_a_new_context_starts_beside_the_old_slot_and_never_drops_to_zero(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    (old,) = fleet.applications
    fleet.apply("assistant", SMALL_VARIANT, context_tokens=4096)

    served: list[int] = []
    for _ in range(20):
        await fleet.turn()
        fleet.step()
        served.append(sum(len(slot.addresses) for slot in fleet.routes[key].slots if not slot.draining))

    assert min(served) >= 1
    assert old not in fleet.applications
    assert fleet.release_number(key) == 2
    assert fleet.statuses[key].previous == 1


async def test_an_old_slot_is_not_removed_while_a_request_is_under_way_there(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    (old,) = fleet.applications
    fleet.in_flight[old] = 1
    fleet.apply("assistant", SMALL_VARIANT, context_tokens=4096)

    await fleet.settle()

    assert old in fleet.applications
    fleet.in_flight.clear()
    await fleet.settle()
    assert old not in fleet.applications


async def test_where_both_do_not_fit_the_old_one_stays_and_says_so(fleet: MemoryFleet) -> None:
    del fleet.nodes["node-a"]
    fleet.nodes["node-b"].budget = 300 * MIB
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    before = fleet.running(key)

    fleet.apply("assistant", SMALL_VARIANT, context_tokens=2304)
    await fleet.settle()

    assert fleet.running(key) == before
    assert fleet.condition(key, "Placed")[1] == "InsufficientCapacity"
    assert "bytes short" in fleet.condition(key, "Placed")[2]
    assert fleet.condition(key, "Ready")[0] == "True"
    assert fleet.condition(key, "Degraded")[0] == "True"


async def test_going_back_to_an_earlier_spec_returns_to_its_number(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    fleet.apply("assistant", SMALL_VARIANT, context_tokens=4096)
    await fleet.settle()

    fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()

    assert fleet.release_number(key) == 1
    assert len(fleet.releases[fleet.models[key].uid]) == 2


async def test_a_better_rung_moves_only_the_node_it_suits(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    kept = next(name for name, app in fleet.applications.items() if app.slot.node == "node-b")

    fleet.apply("assistant", SMALL_VARIANT, BIG_VARIANT, replicas=2)
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("bf16", 1), "node-b": ("q4", 1)}
    assert kept in fleet.applications
    assert fleet.applications[kept].age > 10


async def test_a_lost_nodes_replicas_come_up_elsewhere(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    (home,) = fleet.running(key)

    fleet.nodes[home].ready = False
    fleet.nodes[home].agent_answers = False
    await fleet.settle()

    other = {"node-a": "node-b", "node-b": "node-a"}[home]
    assert fleet.running(key) == {other: ("q4", 1)}


async def test_a_node_that_only_the_api_server_does_not_hear_serves_on(fleet: MemoryFleet) -> None:
    """As after an API server's own outage, until the node has reported, or when a kubelet dies."""
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    before, route, writes = fleet.running(key), fleet.routes[key], len(fleet.writes)

    for home in before:
        fleet.nodes[home].reports = False
    await fleet.settle()

    assert fleet.running(key) == before
    assert fleet.routes[key] == route
    assert not [write for write in fleet.writes[writes:] if not write.startswith("status")]


async def test_a_head_that_has_just_returned_changes_nothing_before_it_has_reached_its_replicas(
    fleet: MemoryFleet,
) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    before, route, writes = fleet.running(key), fleet.routes[key], len(fleet.writes)

    for recovers in (True, False):
        fleet.head_recovers = recovers
        await fleet.settle()

        assert fleet.running(key) == before
        assert fleet.routes[key] == route
        assert fleet.condition(key, "Ready")[0] == "True"
    assert not [write for write in fleet.writes[writes:] if not write.startswith("status")]


async def test_a_node_that_does_not_report_starts_nothing(fleet: MemoryFleet) -> None:
    fleet.nodes["node-a"].reports = fleet.nodes["node-b"].reports = False

    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()

    assert not fleet.running(key)


async def test_an_agent_that_stops_answering_moves_nothing(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    before, writes = fleet.running(key), len(fleet.writes)

    for node in fleet.nodes.values():
        node.agent_answers = False
    await fleet.settle()

    assert fleet.running(key) == before
    assert not [write for write in fleet.writes[writes:] if not write.startswith("status")]


async def test_nothing_is_removed_while_the_cell_or_a_gateway_is_not_known(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    (old,) = fleet.applications
    fleet.gateway_answers = False
    fleet.apply("assistant", SMALL_VARIANT, context_tokens=4096)

    await fleet.settle()

    assert old in fleet.applications
    assert len(fleet.applications) == 2
    fleet.gateway_answers = True
    await fleet.settle()
    assert old not in fleet.applications


async def test_without_a_ledger_new_releases_wait_and_what_runs_goes_on(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    fleet.ledger_answers = False
    fleet.apply("assistant", SMALL_VARIANT, context_tokens=4096, replicas=2)

    await fleet.settle()

    assert sum(ready for _, ready in fleet.running(key).values()) == 2
    assert fleet.condition(key, "Placed")[1] == "LedgerUnavailable"
    assert fleet.condition(key, "Ready")[0] == "True"


async def test_a_missing_file_names_itself_and_the_others_keep_serving(fleet: MemoryFleet) -> None:
    good = fleet.apply("good", SMALL_VARIANT)
    bad = fleet.apply("bad", VariantSpec(name="q4", source="file:///models/none.gguf"))

    await fleet.settle()

    assert fleet.condition(good, "Ready")[0] == "True"
    status, reason, message = fleet.condition(bad, "Resolved")
    assert (status, reason) == ("False", "SourceNotFound")
    assert "file:///models/none.gguf" in message


async def test_an_edit_that_cannot_be_resolved_leaves_the_old_release_serving(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    before = fleet.running(key)

    fleet.apply("assistant", VariantSpec(name="q4", source="file:///models/none.gguf"))
    await fleet.settle()

    assert fleet.running(key) == before
    assert fleet.condition(key, "Ready")[0] == "True"
    assert fleet.condition(key, "Degraded")[:2] == ("True", "SourceNotFound")


async def test_files_that_differ_between_nodes_are_ambiguous(fleet: MemoryFleet) -> None:
    fleet.nodes["node-b"].files[SMALL_VARIANT.source] = artifact("other", mebibytes=100)
    key = fleet.apply("assistant", SMALL_VARIANT)

    await fleet.settle()

    assert fleet.condition(key, "Resolved")[1] == "SourceAmbiguous"


async def test_a_file_only_one_node_has_is_served_there_alone(fleet: MemoryFleet) -> None:
    del fleet.nodes["node-a"].files[SMALL_VARIANT.source]
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)

    await fleet.settle()

    assert set(fleet.running(key)) == {"node-b"}
    assert "q4 on node-a: file:///models/small.gguf is not there" in fleet.condition(key, "Placed")[2]


async def test_the_older_model_has_the_name_and_keeps_it(fleet: MemoryFleet) -> None:
    first = fleet.apply("one", SMALL_VARIANT, aliases=("gpt-4o-mini",))
    fleet.step()
    second = fleet.apply("two", SMALL_VARIANT, aliases=("gpt-4o-mini",))

    await fleet.settle()

    assert "gpt-4o-mini" in fleet.routes[first].names
    assert "gpt-4o-mini" not in fleet.routes[second].names
    assert fleet.condition(second, "Degraded")[:2] == ("True", "NameConflict")


async def test_a_failing_engine_is_tried_again_with_a_backoff_and_then_says_it_is_stalled(fleet: MemoryFleet) -> None:
    for node in fleet.nodes.values():
        node.broken_contents.add(SMALL.digest)
    key = fleet.apply("assistant", SMALL_VARIANT)

    for _ in range(90):
        await fleet.turn()
        fleet.step()

    (app,) = fleet.applications.values()
    assert app.slot.attempt == 2
    assert fleet.condition(key, "Stalled")[:2] == ("True", "EngineStartFailed")
    assert "the engine says no" in fleet.condition(key, "Stalled")[2]


async def test_a_pool_that_is_not_selected_is_not_used(fleet: MemoryFleet) -> None:
    fleet.nodes["node-a"].labels = {"kind": "gpu"}
    fleet.pools = [
        Pool(name="cpu", node_selector=(), engines=(ENGINE,)),
        Pool(name="a-gpu", node_selector=(("kind", "gpu"),), engines=(ENGINE,)),
    ]
    key = fleet.apply("assistant", SMALL_VARIANT, pools=("cpu",))

    await fleet.settle()

    assert set(fleet.running(key)) == {"node-b"}


@pytest.mark.parametrize("seconds", range(12))
async def test_a_delete_in_any_phase_leaves_nothing(fleet: MemoryFleet, seconds: int) -> None:
    other = fleet.apply("other", BIG_VARIANT)
    await fleet.settle()
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    for _ in range(seconds):
        await fleet.turn()
        fleet.step()

    fleet.delete(key)
    await fleet.settle()

    assert key not in fleet.models
    assert key not in fleet.routes
    assert {app.slot.model for app in fleet.applications.values()} == {other}
    assert not any(SMALL.digest in node.weights for node in fleet.nodes.values())
    assert fleet.world is not None
    assert {incarnation.key for incarnation in fleet.world.incarnations} == {other}


async def test_a_settled_fleet_writes_nothing(fleet: MemoryFleet) -> None:
    fleet.apply("one", BIG_VARIANT, SMALL_VARIANT, replicas=2)
    fleet.apply("two", SMALL_VARIANT)
    await fleet.settle()
    before = len(fleet.writes)

    for _ in range(100):
        await fleet.turn()
        fleet.step()

    assert fleet.writes[before:] == []
