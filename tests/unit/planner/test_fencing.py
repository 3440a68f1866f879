"""A deposed leader that was stopped between planning and writing, and goes on: its late writes change nothing.

The doors in memory keep the rules of the real ones: an agent, a head agent and the ledger keep the highest epoch they
have seen and refuse a lower one, a configuration names its base, and what is written to the API server names the
version it was planned from. The fleet itself fails when an older epoch overwrites what a newer one has written.
"""

from __future__ import annotations

from copy import deepcopy

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadstead.domain.model import ModelKey, VariantSpec
from roadstead.domain.plan import Action, ConfigureCell, FetchWeights, FleetPlan, ForgetWeights, MakeRelease, Resolve
from roadstead.planner.fleet import plan
from roadstead.services.act import Executor
from roadstead.services.observe import Ports, observe
from roadstead.services.publish import Publisher
from roadstead.services.resolutions import ResolutionBook
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.memory_ports import ports_of
from tests.fixtures.memory_writes import Leader

FILES = {
    f"file:///models/{name}.gguf": artifact(name, mebibytes=size, bits=bits)
    for name, size, bits in (("middle", 200, 6.6), ("small", 80, 4.5))
}
VARIANTS = tuple(VariantSpec(name=name, source=f"file:///models/{name}.gguf") for name in ("middle", "small"))


def new_fleet() -> MemoryFleet:
    return MemoryFleet(
        nodes={f"node-{n}": MemoryNode(budget=size * MIB, files=dict(FILES)) for n, size in enumerate((1500, 900, 500))}
    )


events = st.one_of(
    st.tuples(
        st.just("apply"), st.sampled_from(["one", "two"]), st.sampled_from([VARIANTS, VARIANTS[:1], VARIANTS[1:]]),
        st.integers(0, 3), st.sampled_from([512, 2048]),
    ),
    st.tuples(st.just("delete"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("node"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("turns"), st.integers(1, 4)),
)  # fmt: skip


async def act_out(fleet: MemoryFleet, event: tuple[object, ...]) -> None:
    match event:
        case ("apply", str(name), tuple(variants), int(replicas), int(context)):
            known = fleet.models.get(ModelKey("team", name))
            if known is None or not known.deleting:
                fleet.apply(name, *variants, replicas=replicas, context_tokens=context)
        case ("delete", str(name)):
            if (key := ModelKey("team", name)) in fleet.models and not fleet.models[key].deleting:
                fleet.delete(key)
        case ("node", int(index), bool(up)):
            fleet.nodes[f"node-{index}"].ready = up
        case ("turns", int(count)):
            for _ in range(count):
                await fleet.turn()
                fleet.step()
        case _:
            raise AssertionError(event)


class Stopped:
    """A leader that has planned and not begun to write."""

    def __init__(self, fleet: MemoryFleet) -> None:
        self.fleet = fleet
        self.leader: Leader = fleet.leader
        self.ports: Ports = ports_of(fleet, fleet.leader)
        self.plan: FleetPlan = plan(observe(self.ports, fleet.resolutions), fleet.now)
        fleet.restart_operator()

    async def write(self, action: Action) -> None:
        """One late write: refused where its door has seen the successor, and then without any effect."""
        doors = [door for door in doors_of(action) if self.fleet.writes.doors.get(door, 0) > self.leader.epoch]
        before = world(self.fleet)

        outcome = await Executor(ports=self.ports, resolutions=ResolutionBook()).carry_out((action,))

        if doors:
            assert outcome.fenced_by == self.fleet.leader.epoch
            assert world(self.fleet) == before


def doors_of(action: Action) -> list[str]:
    match action:
        case ConfigureCell(cell=cell):
            return [cell]
        case FetchWeights(node=node) | ForgetWeights(node=node):
            return [f"agent {node}"]
        case MakeRelease():
            return ["ledger"]
        case _:
            return []


def world(fleet: MemoryFleet) -> object:
    versions = [route.resource_version for route in fleet.routes.values()]
    return deepcopy((fleet.normalised(), versions, [model.resource_version for model in fleet.models.values()]))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.lists(events, min_size=1, max_size=5),
    after=st.lists(events, min_size=1, max_size=5),
    pauses=st.lists(st.integers(0, 2), max_size=8),
)
async def test_late_writes_of_a_deposed_leader_are_refused_and_change_nothing(
    before: list[tuple[object, ...]], after: list[tuple[object, ...]], pauses: list[int]
) -> None:
    fleet = new_fleet()
    for event in before:
        await act_out(fleet, event)
    stopped = Stopped(fleet)
    for event in after:
        await act_out(fleet, event)
    waits = iter(pauses)
    for action in stopped.plan.actions:
        if not isinstance(action, Resolve):
            await stopped.write(action)
        await act_out(fleet, ("turns", next(waits, 0)))
    await Publisher().publish(stopped.plan, stopped.ports.cluster, fleet.now)
    for node in fleet.nodes.values():
        node.ready = True

    await fleet.settle(limit=200)

    # What the late writes left of a model that is gone is swept, or held and told where too few models are there.
    known = {*fleet.models, *plan(observe(fleet.ports, fleet.resolutions), fleet.now).held}
    assert {app.slot.model for app in fleet.applications.values()} <= known
    assert set(fleet.routes) <= known
    for key, model in fleet.models.items():
        unplaced = fleet.condition(key, "Placed")[0] == "False"
        assert fleet.answering(key) >= model.checked_spec.replicas or unplaced
        served = {app.slot.content.context_tokens for app in fleet.applications.values() if app.slot.model == key}
        assert served <= {model.checked_spec.requirements.context_tokens} or unplaced


async def test_every_late_write_of_a_whole_change_is_refused() -> None:
    """Without chance: the successor has been at every door, and has done what the stopped leader was about to do."""
    fleet = new_fleet()
    key = fleet.apply("one", *VARIANTS, replicas=2)
    fleet.apply("two", *VARIANTS)
    await fleet.settle()
    fleet.apply("one", *VARIANTS, replicas=1, context_tokens=512)
    fleet.delete(ModelKey("team", "two"))
    written: list[str] = []
    for _ in range(12):
        stopped = Stopped(fleet)
        await act_out(fleet, ("turns", 2))
        fleet.apply("one", *VARIANTS, replicas=3)
        await fleet.settle()
        before, writes = world(fleet), len(fleet.writes)
        for action in stopped.plan.actions:
            await stopped.write(action)
        await Publisher().publish(stopped.plan, stopped.ports.cluster, fleet.now)
        assert world(fleet) == before
        written += fleet.writes[writes:]
        fleet.apply("one", *VARIANTS, replicas=1, context_tokens=512)
        await fleet.turn()
        fleet.step()
    assert written == []
    assert fleet.answering(key) >= 1


async def test_a_configuration_planned_on_an_older_one_is_refused_although_its_epoch_is_right() -> None:
    fleet = new_fleet()
    fleet.apply("one", *VARIANTS)
    await fleet.settle()
    fleet.apply("one", *VARIANTS, replicas=2)
    await fleet.turn()
    fleet.step()
    late = plan(observe(fleet.ports, fleet.resolutions), fleet.now)
    (change,) = [action for action in late.actions if isinstance(action, ConfigureCell)]
    await fleet.settle()
    before = world(fleet)

    outcome = await Executor(ports=fleet.ports, resolutions=fleet.resolutions).carry_out((change,))

    assert (outcome.failed, outcome.fenced_by) == (1, None)
    assert world(fleet) == before
