"""Whatever happens, a fleet settles, and a settled fleet plans nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadstead.domain.model import ModelKey, VariantSpec
from roadstead.domain.snapshot import EngineBuild, image_label
from roadstead.domain.workload import Devices, PodRole
from roadstead.planner.fleet import plan
from roadstead.services.observe import observe
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.memory_pods import MemoryPods, image, pool

FILES = {
    f"file:///models/{name}.gguf": artifact(name, mebibytes=size, bits=bits)
    for name, size, bits in (("large", 500, 16), ("middle", 200, 6.6), ("small", 80, 4.5))
}
VARIANTS = tuple(VariantSpec(name=name, source=f"file:///models/{name}.gguf") for name in ("large", "middle", "small"))


def new_fleet(*budgets: int) -> MemoryFleet:
    return MemoryFleet(
        nodes={f"node-{index}": MemoryNode(budget=size * MIB, files=dict(FILES)) for index, size in enumerate(budgets)}
    )


IMAGES = (image("a"), image("b"))


def new_fleet_of_pods(devices: Devices) -> MemoryFleet:
    fleet = new_fleet(1500, 1500, 1500)
    fleet.pools = [pool(IMAGES[0], devices=devices)]
    fleet.pods = MemoryPods()
    return fleet


models = st.sampled_from(["one", "two", "three"])
wishes = st.one_of(
    st.tuples(
        st.just("apply"),
        models,
        st.lists(st.sampled_from(VARIANTS), min_size=1, max_size=3, unique=True),
        st.integers(0, 4),
        st.sampled_from([512, 2048]),
    ),
    st.tuples(st.just("delete"), models),
    st.tuples(st.just("node"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("agent"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("budget"), st.integers(0, 2), st.sampled_from([300, 700, 1500])),
    st.tuples(st.just("ledger"), st.booleans()),
    st.tuples(st.just("cell"), st.booleans()),
    st.tuples(st.just("turns"), st.integers(1, 5)),
)


async def act_out(fleet: MemoryFleet, wish: tuple[object, ...]) -> None:
    match wish:
        case ("apply", str(name), list(variants), int(replicas), int(context)):
            if not (model := fleet.models.get(ModelKey("team", name))) or not model.deleting:
                fleet.apply(name, *variants, replicas=replicas, context_tokens=context)
        case ("delete", str(name)):
            if ModelKey("team", name) in fleet.models:
                fleet.delete(ModelKey("team", name))
        case ("node", int(index), bool(up)):
            fleet.nodes[f"node-{index}"].ready = up
        case ("agent", int(index), bool(up)):
            fleet.nodes[f"node-{index}"].agent_answers = up
        case ("budget", int(index), int(size)):
            fleet.nodes[f"node-{index}"].budget = size * MIB
        case ("ledger", bool(up)):
            fleet.ledger_answers = up
        case ("cell", bool(up)):
            fleet.cell_answers = up
        case ("turns", int(count)):
            for _ in range(count):
                await fleet.turn()
                fleet.step()
                check_invariants(fleet)
        case _:
            raise AssertionError(wish)


def check_invariants(fleet: MemoryFleet) -> None:
    for name, node in fleet.nodes.items():
        leased = sum(app.leases * app.slot.memory_bytes for app in fleet.applications.values() if app.slot.node == name)
        assert leased <= max(node.budget, 1500 * MIB), "more memory leased than any budget ever was"
    for key, route in fleet.routes.items():
        for address in route.slots:
            assert not address.draining or address.weight == 0, f"{key} sends to a draining slot"
    granted = [name for route in fleet.routes.values() for name in route.names]
    assert len(granted) == len(set(granted)), "one name, two models"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(wishes, max_size=14))
async def test_any_history_settles_and_a_settled_fleet_plans_nothing(history: list[tuple[object, ...]]) -> None:
    fleet = new_fleet(1500, 700, 300)
    fleet.check_rest = True
    for wish in history:
        await act_out(fleet, wish)
    for node in fleet.nodes.values():
        node.ready = node.agent_answers = True
    fleet.ledger_answers = fleet.cell_answers = True

    await fleet.settle(limit=200)

    snapshot = observe(fleet.ports, fleet.resolutions)
    assert plan(snapshot, fleet.now) == plan(snapshot, fleet.now)
    assert not any(model.deleting for model in fleet.models.values())
    assert {app.slot.model for app in fleet.applications.values()} <= set(fleet.models)
    for key, model in fleet.models.items():
        wanted = model.checked_spec.replicas
        ready = sum(app.ready for app in fleet.applications.values() if app.slot.model == key)
        placed = fleet.condition(key, "Placed")
        assert ready >= wanted or placed[0] == "False", f"{key}: {ready} of {wanted} and nobody says why"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
async def test_the_plan_does_not_depend_on_the_order_of_the_lists(order: tuple[int, ...]) -> None:
    fleet = new_fleet(1500, 700, 300)
    for index in range(3):
        fleet.apply(f"model-{index}", *VARIANTS, replicas=2)
    await fleet.turn()
    snapshot = observe(fleet.ports, fleet.resolutions)
    names = list(fleet.models)

    fleet.models = {names[index]: fleet.models[names[index]] for index in order}
    fleet.nodes = dict(reversed(fleet.nodes.items()))

    assert plan(observe(fleet.ports, fleet.resolutions), fleet.now).actions == plan(snapshot, fleet.now).actions


async def test_of_models_that_come_together_all_actions_of_one_kind_are_one_run_that_goes_side_by_side() -> None:
    fleet = new_fleet(1500, 700, 300)
    for index in range(5):
        fleet.apply(f"model-{index}", *VARIANTS)

    for _ in range(8):
        planned = plan(observe(fleet.ports, fleet.resolutions), fleet.now)
        kinds = [kind for kind, _ in groupby(planned.actions, key=type)]
        assert len(kinds) == len(set(kinds)), kinds
        await fleet.turn()
        fleet.step()


events = st.one_of(
    st.tuples(st.just("apply"), models, st.lists(st.sampled_from(VARIANTS), min_size=1, max_size=2, unique=True),
              st.integers(0, 3), st.just(512)),
    st.tuples(st.just("delete"), models),
    st.tuples(st.just("node"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("agent"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("cell"), st.booleans()),
    st.tuples(st.just("cordon"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("adopt"), st.sampled_from(IMAGES)),
    st.tuples(st.just("template"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("lose"), st.integers(0, 5)),
    st.tuples(st.just("turns"), st.integers(1, 12)),
)  # fmt: skip


async def act_out_on_pods(fleet: MemoryFleet, event: tuple[object, ...]) -> None:
    assert fleet.pods is not None
    match event:
        case ("cordon", int(index), bool(cordoned)):
            name = f"node-{index}"
            fleet.nodes[name].unschedulable = cordoned
            fleet.pods.evictions.pop(name, None)
            if cordoned:
                fleet.pods.drain(name)
        case ("adopt", EngineBuild() as build):
            fleet.pools = [replace(fleet.pools[0], engines=(build,), adopt=build.identity)]
        case ("template", str(digest)):
            fleet.pods.workloads = replace(fleet.pods.workloads, worker_digest=digest, agent_digest=digest)
        case ("lose", int(index)):
            for name in sorted(fleet.pods.pods)[index : index + 1]:
                fleet.pods.remove(name)
        case _:
            await act_out(fleet, event)


@pytest.mark.parametrize("devices", Devices)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(events, max_size=14))
async def test_any_history_of_pods_settles_with_every_pod_in_place(
    devices: Devices, history: list[tuple[object, ...]]
) -> None:
    """Every removal on the way was checked where it was carried out: no slot, no second worker of an image."""
    fleet = new_fleet_of_pods(devices)
    fleet.check_rest = True
    assert fleet.pods is not None
    for event in history:
        await act_out_on_pods(fleet, event)
    for node in fleet.nodes.values():
        node.ready = node.agent_answers = True
        node.unschedulable = False
    fleet.pods.evictions.clear()
    fleet.cell_answers = True

    await fleet.settle(limit=900)

    (build,) = fleet.pools[0].engines
    assert [pod.wish.node for _, pod in sorted(fleet.pods.of(PodRole.AGENT).items())] == sorted(fleet.nodes)
    for name in fleet.nodes:
        images = {pod.wish.image for pod in fleet.pods.of(PodRole.WORKER, name).values()}
        held = {
            app.slot.model for app in fleet.applications.values() if app.slot.content.engine_image != build.identity
        }
        assert images == {build.image} or (held and all(fleet.condition(key, "Placed")[0] == "False" for key in held))
    for key, model in fleet.models.items():
        ready = sum(app.ready for app in fleet.applications.values() if app.slot.model == key)
        assert ready >= model.checked_spec.replicas or fleet.condition(key, "Placed")[0] == "False"
    placed = {(app.slot.node, image_label(app.slot.content.engine_image)) for app in fleet.applications.values()}
    assert fleet.pods.budgets == {
        name
        for name, pod in fleet.pods.pods.items()
        if (pod.wish.node, pod.label) in placed
        or (pod.wish.role is PodRole.AGENT and pod.wish.node in {node for node, _ in placed})
    }
