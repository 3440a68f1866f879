"""Spread: a replica is not started where its zone, or its node, would then be too far ahead of the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadstead.domain.explanation import Option
from roadstead.domain.model import ModelKey, Spread, VariantSpec
from roadstead.domain.plan import ConfigureCell
from roadstead.domain.reasons import Reason
from roadstead.planner.crowding import too_many
from roadstead.planner.explain import explain
from roadstead.planner.fleet import plan
from roadstead.planner.spread import Domains, Topology
from roadstead.planner.survey import survey
from roadstead.services.observe import observe
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

FILES = {
    "file:///large.gguf": artifact("large", mebibytes=400, bits=16),
    "file:///small.gguf": artifact("small", mebibytes=80, bits=4.5),
}
"""A replica of the large one needs 517 MiB, of the small one 197."""
LARGE, SMALL = (VariantSpec(name=source[8:13], source=source) for source in FILES)
ZONE, HOSTNAME = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
ZONES, NODES = Spread(topology_key=ZONE), Spread(topology_key=HOSTNAME)


def fleet_of(**nodes: int) -> MemoryFleet:
    """Nodes by name with their MiB; the first letter is the zone, and x stands for none."""
    fleet = MemoryFleet(nodes={}, check_rest=True)
    for name, mebibytes in nodes.items():
        fleet.nodes[name] = node(name, mebibytes)
    return fleet


def node(name: str, mebibytes: int) -> MemoryNode:
    labels = {HOSTNAME: name} if name[0] == "x" else {HOSTNAME: name, ZONE: f"zone-{name[0]}"}
    return MemoryNode(budget=mebibytes * MIB, files=dict(FILES), labels=labels)


def by_node(fleet: MemoryFleet, key: ModelKey) -> dict[str, int]:
    return {name: count for name, (_, count) in sorted(fleet.running(key).items())}


def by_zone(fleet: MemoryFleet, key: ModelKey) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, (_, count) in fleet.running(key).items():
        counts[name[0]] += count
    return dict(sorted(counts.items()))


def refusals(fleet: MemoryFleet, key: ModelKey, name: str) -> list[Option]:
    told = explain(observe(fleet.ports, fleet.resolutions), fleet.now, key)
    return [each for each in told.options if name in each.nodes]


async def test_replicas_go_to_the_zone_with_the_fewest_although_others_have_more_room() -> None:
    fleet = fleet_of(a1=4000, a2=4000, a3=4000, a4=4000, b1=500, b2=500)
    key = fleet.apply("assistant", SMALL, replicas=4, spread=ZONES)

    await fleet.settle()

    assert by_zone(fleet, key) == {"a": 2, "b": 2}


async def test_without_the_field_the_emptiest_nodes_are_taken_wherever_they_are() -> None:
    fleet = fleet_of(a1=4000, a2=4000, a3=4000, a4=4000, b1=500, b2=500)
    key = fleet.apply("assistant", SMALL, replicas=4)

    await fleet.settle()

    assert by_zone(fleet, key) == {"a": 4}


async def test_a_replica_that_would_be_too_many_in_its_zone_is_not_started_and_status_says_by_how_much() -> None:
    fleet = fleet_of(a1=4000, a2=4000, b1=300)
    key = fleet.apply("assistant", SMALL, replicas=4, spread=ZONES)

    await fleet.settle()

    assert by_zone(fleet, key) == {"a": 2, "b": 1}
    status, _, message = fleet.condition(key, "Placed")
    assert status == "False"
    assert (
        "small on a1: is in zone-a, which has 2 replicas while zone-b has 1: one more would be 2 ahead, "
        "spec.placement.spread.maxSkew is 1" in message
    )


async def test_a_larger_skew_allows_as_many_more() -> None:
    fleet = fleet_of(a1=4000, a2=4000, b1=300)
    key = fleet.apply("assistant", SMALL, replicas=5, spread=Spread(topology_key=ZONE, max_skew=3))

    await fleet.settle()

    assert by_zone(fleet, key) == {"a": 4, "b": 1}
    assert fleet.condition(key, "Placed")[0] == "True"


async def test_a_zone_that_is_down_is_a_zone_without_replicas() -> None:
    fleet = fleet_of(a1=4000, a2=4000, b1=4000)
    fleet.nodes["b1"].ready = False
    key = fleet.apply("assistant", SMALL, replicas=2, spread=ZONES)

    await fleet.settle()
    assert by_zone(fleet, key) == {"a": 1}
    assert fleet.condition(key, "Placed")[1] == "SkewExceeded"

    fleet.nodes["b1"].ready = True
    await fleet.settle()
    assert by_zone(fleet, key) == {"a": 1, "b": 1}


async def test_a_zone_that_policy_leaves_out_is_none() -> None:
    fleet = fleet_of(a1=4000, b1=4000)
    fleet.pools[0] = replace(fleet.pools[0], node_selector=((ZONE, "zone-a"),))
    key = fleet.apply("assistant", SMALL, replicas=3, spread=ZONES)

    await fleet.settle()

    assert by_zone(fleet, key) == {"a": 3}


async def test_a_node_without_the_label_is_not_used() -> None:
    fleet = fleet_of(a1=500, x1=4000)
    key = fleet.apply("assistant", SMALL, replicas=3, spread=ZONES)

    await fleet.settle()

    assert by_node(fleet, key) == {"a1": 2}
    assert (
        f"small on x1: lacks the label {ZONE}, which spec.placement.spread counts by"
        in (fleet.condition(key, "Placed")[2])
    )


async def test_by_hostname_a_node_gets_its_second_replica_when_every_other_has_its_first() -> None:
    fleet = fleet_of(a1=4000, a2=500, a3=500)
    key = fleet.apply("assistant", SMALL, replicas=4, spread=NODES)

    await fleet.settle()

    assert by_node(fleet, key) == {"a1": 2, "a2": 1, "a3": 1}


async def test_by_hostname_nothing_is_stacked_while_a_node_has_none() -> None:
    fleet = fleet_of(a1=4000, a2=4000)
    fleet.nodes["a2"].ready = False
    key = fleet.apply("assistant", SMALL, replicas=2, spread=NODES)

    await fleet.settle()

    assert by_node(fleet, key) == {"a1": 1}
    assert "small on a1: has 1 replica while a2 has 0: one more would be 2 ahead" in fleet.condition(key, "Placed")[2]
    assert fleet.condition(key, "Placed")[1] == "AntiAffinity"


async def test_what_stands_stays_where_it_is_and_makes_no_release_when_the_field_is_set() -> None:
    fleet = fleet_of(a1=4000, a2=4000, a3=4000, b1=300)
    key = fleet.apply("assistant", SMALL, replicas=3)
    await fleet.settle()
    before = by_node(fleet, key)
    assert before == {"a1": 1, "a2": 1, "a3": 1}
    written = len(fleet.writes)

    fleet.apply("assistant", SMALL, replicas=3, spread=ZONES)
    await fleet.settle()

    assert by_node(fleet, key) == before
    assert fleet.release_number(key) == 1
    assert len(fleet.writes) == written


async def test_a_further_replica_evens_out_what_stands_unevenly() -> None:
    fleet = fleet_of(a1=4000, a2=4000, a3=4000, b1=400, b2=400)
    key = fleet.apply("assistant", SMALL, replicas=3)
    await fleet.settle()
    assert by_zone(fleet, key) == {"a": 3}

    fleet.apply("assistant", SMALL, replicas=5, spread=ZONES)
    await fleet.settle()

    assert by_zone(fleet, key) == {"a": 3, "b": 2}


async def test_what_is_too_much_goes_where_most_are() -> None:
    fleet = fleet_of(a1=4000, a2=4000, a3=4000, b1=400)
    key = fleet.apply("assistant", SMALL, replicas=4)
    await fleet.settle()
    assert by_zone(fleet, key) == {"a": 3, "b": 1}

    fleet.apply("assistant", SMALL, replicas=2, spread=ZONES)
    await fleet.settle()

    assert by_zone(fleet, key) == {"a": 1, "b": 1}


async def test_a_better_variant_is_not_taken_where_it_would_be_too_many() -> None:
    fleet = fleet_of(a1=300, b1=300)
    key = fleet.apply("assistant", LARGE, SMALL, replicas=2, spread=ZONES)
    await fleet.settle()

    fleet.nodes["b2"] = node("b2", 2000)
    await fleet.settle()

    assert fleet.running(key) == {"a1": ("small", 1), "b1": ("small", 1)}


async def test_a_better_variant_in_the_same_zone_makes_nothing_more_uneven() -> None:
    fleet = fleet_of(a1=300, a2=300, b1=300)
    key = fleet.apply("assistant", LARGE, SMALL, replicas=3, spread=ZONES)
    await fleet.settle()
    assert by_zone(fleet, key) == {"a": 2, "b": 1}

    fleet.nodes["a3"] = node("a3", 800)
    await fleet.settle()

    assert by_zone(fleet, key) == {"a": 2, "b": 1}
    assert fleet.running(key)["a3"] == ("large", 1)


async def test_a_better_variant_in_a_fuller_zone_is_not_what_is_too_much_afterwards() -> None:
    fleet = fleet_of(a1=600, b1=600, c1=300)
    key = fleet.apply("assistant", LARGE, SMALL, replicas=3, spread=Spread(topology_key=ZONE, max_skew=2))
    await fleet.settle()
    assert fleet.running(key) == {"a1": ("large", 1), "b1": ("large", 1), "c1": ("small", 1)}

    fleet.nodes["a2"] = node("a2", 590)
    await fleet.settle()

    assert fleet.running(key) == {"a1": ("large", 1), "a2": ("large", 1), "b1": ("large", 1)}


async def test_a_higher_priority_takes_room_only_where_the_spread_allows_a_replica() -> None:
    fleet = fleet_of(a1=300, a2=300, a3=300, b1=300)
    low = fleet.apply("low", SMALL, replicas=4)
    await fleet.settle()

    high = fleet.apply("high", SMALL, replicas=4, priority=1, spread=ZONES)
    await fleet.settle()

    assert by_zone(fleet, high) == {"a": 2, "b": 1}
    assert by_zone(fleet, low) == {"a": 1}


async def test_while_only_the_spread_keeps_a_replica_from_starting_others_get_their_better_variants() -> None:
    fleet = fleet_of(a1=500, b1=100)
    fleet.apply("spread", SMALL, replicas=2, spread=ZONES)
    other = fleet.apply("other", LARGE, SMALL)
    await fleet.settle()
    assert fleet.running(other) == {"a1": ("small", 1)}

    fleet.nodes["a1"].budget = 1200 * MIB
    await fleet.settle()

    assert fleet.running(other) == {"a1": ("large", 1)}


@pytest.mark.parametrize("spread", [ZONES, NODES])
async def test_models_that_come_together_are_offered_only_what_the_spread_allows(spread: Spread) -> None:
    fleet = fleet_of(a1=420, a2=420, b1=420, b2=420, x1=420)
    keys = [fleet.apply(name, SMALL, replicas=4, spread=spread) for name in ("first", "second")]

    await fleet.settle()

    assert [sum(by_node(fleet, key).values()) for key in keys] == [4, 4]
    for key in keys:
        assert spread is NODES or by_node(fleet, key) == {"a1": 1, "a2": 1, "b1": 1, "b2": 1}


async def test_offers_leave_room_in_every_zone_for_the_model_that_is_spread() -> None:
    fleet = fleet_of(a1=250, a2=250, b1=250, b2=250)
    free = fleet.apply("free", SMALL, replicas=2)
    even = fleet.apply("spread", SMALL, replicas=2, spread=ZONES)

    await fleet.settle()

    assert by_zone(fleet, even) == {"a": 1, "b": 1}
    assert sum(by_zone(fleet, free).values()) == 2


async def test_an_offer_is_not_taken_up_where_another_zone_found_no_room_for_its_part() -> None:
    fleet = fleet_of(a1=420, a2=420, b1=100)
    keys = [fleet.apply(name, SMALL, replicas=4, spread=ZONES) for name in ("first", "second")]

    await fleet.settle()

    assert [by_zone(fleet, key) for key in keys] == [{"a": 1}, {"a": 1}]


async def test_a_new_release_is_spread_anew_beside_the_old_one() -> None:
    fleet = fleet_of(a1=1000, a2=1000, b1=1000)
    key = fleet.apply("assistant", SMALL, replicas=3, spread=ZONES)
    await fleet.settle()

    fleet.apply("assistant", SMALL, replicas=3, spread=ZONES, context_tokens=1024)
    await fleet.settle()

    assert fleet.release_number(key) == 2
    assert by_zone(fleet, key) == {"a": 2, "b": 1}


async def test_of_the_old_release_that_stays_which_evens_out_what_the_new_one_has() -> None:
    fleet = fleet_of(a1=1500, b1=300)
    fleet.apply("assistant", SMALL, replicas=2, spread=ZONES)
    await fleet.settle()

    fleet.apply("assistant", SMALL, replicas=2, spread=ZONES, context_tokens=8192)
    await fleet.settle()

    releases = {app.slot.node: app.slot.release for app in fleet.applications.values() if app.configured}
    assert releases == {"a1": 2, "b1": 1}


@pytest.mark.parametrize(("cordoned", "zones"), [(("b1",), {"a1", "b2"}), (("a1", "b1"), {"a2", "b2"})])
async def test_what_moves_while_the_new_release_has_no_place_is_spread_as_well(
    cordoned: tuple[str, ...], zones: set[str]
) -> None:
    fleet = fleet_of(a1=310, b1=310)
    key = fleet.apply("assistant", SMALL, replicas=2, spread=ZONES)
    await fleet.settle()
    for name in ("a2", "a3"):
        fleet.nodes[name] = node(name, 300)
    fleet.nodes["b2"] = node("b2", 290)

    fleet.apply("assistant", SMALL, replicas=2, spread=ZONES, context_tokens=8192)
    for name in cordoned:
        fleet.nodes[name].unschedulable = True
    await fleet.settle()

    assert set(fleet.running(key)) == zones


@given(st.lists(st.sampled_from(["a", "b", "c", "x"]), max_size=9), st.integers(0, 9), st.integers(1, 3))
def test_to_deal_by_turns_is_allowed_at_every_step_whatever_stands(
    standing: list[str], replicas: int, max_skew: int
) -> None:
    domains = Domains(
        spread=Spread(topology_key=ZONE, max_skew=max_skew),
        by_node={name: f"zone-{name}" for name in "abc"},
        names=frozenset({"zone-a", "zone-b", "zone-c"}),
    )
    places = [(name, 1) for name in standing]

    for beside, domain in domains.turns(replicas, places, seed="uid"):
        name = domain.removeprefix("zone-")
        assert beside == sum(node == name for node, _ in places)
        assert domains.allow(name, places)
        places.append((name, 1))


async def test_explain_tells_what_keeps_a_further_replica_off_a_node() -> None:
    fleet = fleet_of(a1=4000, a2=4000, b1=300)
    key = fleet.apply("assistant", SMALL, replicas=3, spread=ZONES)
    await fleet.settle()
    fleet.nodes["a3"] = node("a3", 4000)
    await fleet.settle()

    assert [each.verdict.reason for each in refusals(fleet, key, "a3")] == [Reason.SKEW_EXCEEDED]


async def test_an_operator_that_starts_anew_writes_nothing() -> None:
    fleet = fleet_of(a1=4000, a2=4000, b1=300, b2=300, x1=4000)
    fleet.apply("assistant", LARGE, SMALL, replicas=5, spread=ZONES)
    fleet.apply("other", SMALL, replicas=3, spread=NODES)
    await fleet.settle()
    written = len(fleet.writes)

    fleet.restart_operator()
    await fleet.settle()

    assert len(fleet.writes) == written


models = st.sampled_from(["one", "two"])
spreads = st.sampled_from([ZONES, NODES, Spread(topology_key=ZONE, max_skew=2), None])
events = st.one_of(
    st.tuples(st.just("apply"), models, st.integers(0, 5), spreads, st.sampled_from([512, 2048]), st.integers(0, 1)),
    st.tuples(st.just("delete"), models),
    st.tuples(
        st.just("node"), st.integers(0, 5), st.just("budget"), st.sampled_from([s * MIB for s in (100, 300, 700, 2000)])
    ),
    st.tuples(
        st.just("node"),
        st.integers(0, 5),
        st.sampled_from(["ready", "agent_answers", "unschedulable"]),
        st.booleans(),
    ),
    st.tuples(st.just("label"), st.integers(0, 5), st.sampled_from(["zone-a", "zone-b", "zone-c"])),
    st.tuples(st.just("restart")),
    st.tuples(st.just("turns"), st.integers(1, 8)),
)


async def act_out(fleet: MemoryFleet, event: tuple[object, ...]) -> None:
    names = list(fleet.nodes)
    match event:
        case ("apply", str(name), int(replicas), spread, int(context), int(priority)):
            model = fleet.models.get(ModelKey("team", name))
            if model is None or not model.deleting:
                more = {"spread": spread, "context_tokens": context, "priority": priority}
                fleet.apply(name, LARGE, SMALL, replicas=replicas, **more)  # type: ignore[arg-type]
        case ("delete", str(name)):
            if ModelKey("team", name) in fleet.models:
                fleet.delete(ModelKey("team", name))
        case ("node", int(index), str(field), value):
            setattr(fleet.nodes[names[index]], field, value)
        case ("label", int(index), str(zone)):
            fleet.nodes[names[index]].labels[ZONE] = zone
        case ("restart",):
            fleet.restart_operator()
        case ("turns", int(count)):
            for _ in range(count):
                check_what_starts(fleet)
                await fleet.turn()
                fleet.step()
        case _:
            raise AssertionError(event)


def check_what_starts(fleet: MemoryFleet) -> None:
    """Of what the next turn starts: nothing is too many where it goes, as its model's replicas are then placed."""
    snapshot = observe(fleet.ports, fleet.resolutions)
    planned = plan(snapshot, fleet.now)
    seen = survey(snapshot)
    topology, crowded = Topology(seen.seats), too_many(seen.view, seen.seats)
    there = {app.slot.name: app.slot.replicas for app in fleet.applications.values() if app.configured}
    reports = {report.model.key: report for report in planned.reports}
    for slot in (slot for each in planned.actions if isinstance(each, ConfigureCell) for slot in each.put):
        report = reports[slot.model]
        spec, release = report.model.checked_spec, report.release
        domains = topology.of(spec)
        if domains is None or release is None or slot.replicas <= there.get(slot.name, 0):
            continue
        # What stands in for replicas that the release has no place for is placed after the release is.
        current = {content.hash for content in release.contents}
        counted = (
            report.places if slot.content.hash not in current else (p for p in report.places if p.content in current)
        )
        # So is what stays although its node has shrunk, until all that the release asks for has a place.
        outgrown = {app.slot.node for name, app in fleet.applications.items() if name in crowded}
        counts = domains.counts((place.node, place.replicas) for place in counted if place.node not in outgrown)
        fewest = min(counts[name] for name in domains.names)
        assert counts[domains.by_node[slot.node]] - fewest <= domains.spread.max_skew, f"{slot.name}: {counts}"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events, max_size=14))
async def test_whatever_comes_and_goes_nothing_is_started_where_it_would_be_too_many(
    history: list[tuple[object, ...]],
) -> None:
    fleet = fleet_of(a1=700, a2=700, b1=700, b2=300, c1=300, x1=2000)
    fleet.check_rest = False  # with operators that begin anew and ask for files again, turns may differ
    for event in [("apply", "one", 3, ZONES, 512, 0), *history, ("turns", 8)]:
        await act_out(fleet, event)
    for each in fleet.nodes.values():
        each.ready = each.agent_answers = True
    await fleet.settle(limit=200)
    written = len(fleet.writes)

    fleet.restart_operator()
    await fleet.settle()

    # What a model at rest says of other nodes is as old as its rest.
    assert [write for write in fleet.writes[written:] if not write.startswith("status ")] == []
