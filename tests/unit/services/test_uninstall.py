"""A fleet is taken down in order, and being killed on the way costs nothing but running it again."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import pytest

from roadstead.domain.model import Model, ModelKey, VariantSpec
from roadstead.domain.plan import ModelReport
from roadstead.domain.workload import PodRole
from roadstead.ports import DoorError, FencedError
from roadstead.services.uninstall import Bounds, Remainder, Uninstall
from tests.fixtures.memory_fleet import MIB, Killed, MemoryFleet, MemoryNode, artifact

SMALL = artifact("small", mebibytes=100)
FOREIGN = "example.dev/theirs"


@dataclass
class MemoryPod:
    role: PodRole
    node: str
    killed_at: float | None = None
    """When its grace period is over, once it is to end."""
    node_lost: bool = False


@dataclass
class Site:
    """An installation in memory, on top of a fleet; every write is noted there and may be the last one of a process."""

    fleet: MemoryFleet
    pods_by_name: dict[str, MemoryPod]
    operator_pods: list[str] = field(default_factory=lambda: ["operator-0", "operator-1"])
    operators_wanted: int = 2
    operators_stuck: bool = False
    budget_names: set[str] = field(default_factory=set)
    record_names: set[str] = field(default_factory=lambda: {"roadstead-pool-local"})
    test_names: set[str] = field(default_factory=lambda: {"roadstead-test"})
    finalizers: dict[ModelKey, set[str]] = field(default_factory=dict)
    refusing_to_let_go: set[ModelKey] = field(default_factory=set)
    listing_fails: bool = False
    lease_holder: str = "operator-0"
    lease_epoch: int | None = 7
    head_epoch: int = 7
    requests_end_per_second: int = 1
    now: float = 0.0
    said: list[str] = field(default_factory=list)

    async def pause(self, seconds: float) -> None:
        self.now += seconds
        if self.now % 1 == 0:
            self._second()

    def _second(self) -> None:
        self.fleet.step()
        self.fleet.in_flight = {
            slot: count - self.requests_end_per_second
            for slot, count in self.fleet.in_flight.items()
            if count > self.requests_end_per_second
        }
        if self.operators_wanted == 0 and not self.operators_stuck and self.operator_pods:
            self.operator_pods.pop()
            self.lease_holder = "" if not self.operator_pods else self.lease_holder
        leased = {app.slot.node for app in self.fleet.applications.values() if app.leases}
        for name, pod in list(self.pods_by_name.items()):
            if pod.killed_at is None or pod.node_lost:
                continue
            if pod.node not in leased or self.now >= pod.killed_at:
                del self.pods_by_name[name]

    # ── Installation ──

    async def stop_operators(self) -> None:
        if self.operators_wanted:
            self.fleet.writes.about_to("scale operator to 0")
        self.operators_wanted = 0

    async def operators(self) -> tuple[str, ...]:
        return tuple(self.operator_pods)

    async def routes(self) -> tuple[str, ...]:
        return tuple(route.name for route in self.fleet.routes.values())

    async def withdraw_route(self, name: str) -> None:
        self.fleet.writes.about_to(f"withdraw {name}")
        self.fleet.routes = {key: route for key, route in self.fleet.routes.items() if route.name != name}

    async def budgets(self) -> tuple[str, ...]:
        return tuple(sorted(self.budget_names))

    async def remove_budget(self, name: str) -> None:
        self.fleet.writes.about_to(f"unprotect {name}")
        self.budget_names.discard(name)

    async def pods(self, role: PodRole) -> tuple[str, ...]:
        return tuple(name for name, pod in self.pods_by_name.items() if pod.role is role)

    async def remove_pod(self, name: str, *, grace_seconds: int) -> None:
        """As a kubelet has it: a grace period that has begun is not shortened."""
        self.fleet.writes.about_to(f"remove {name}")
        self.test_names.discard(name)
        if name in self.pods_by_name:
            pod = self.pods_by_name[name]
            pod.killed_at = pod.killed_at or self.now + grace_seconds

    async def records(self) -> tuple[str, ...]:
        return tuple(sorted(self.record_names))

    async def remove_record(self, name: str) -> None:
        self.fleet.writes.about_to(f"remove {name}")
        self.record_names.discard(name)

    async def tests(self) -> tuple[str, ...]:
        return tuple(sorted(self.test_names))

    async def models(self) -> tuple[Model, ...]:
        if self.listing_fails:
            raise DoorError("Forbidden", "may not list localmodels")
        return tuple(self.fleet.models.values())

    async def tell(self, report: ModelReport) -> None:
        before = self.fleet.statuses.get(report.model.key)
        if before is None or before.conditions != report.conditions:
            self.fleet.writes.about_to(f"status {report.model.key}")
        self.fleet.statuses[report.model.key] = report

    async def let_go(self, model: Model) -> None:
        if model.key in self.refusing_to_let_go:
            raise DoorError("Invalid", "another controller objects")
        if not model.finalized:
            return
        self.fleet.writes.about_to(f"let {model.key} go")
        self.fleet.models[model.key] = replace(model, finalized=False)
        if model.deleting:
            del self.fleet.models[model.key]

    async def forget_lease(self) -> None:
        if self.lease_epoch is not None:
            self.fleet.writes.about_to("forget the Lease")
        self.lease_epoch = None

    # ── Leader ──

    async def acquire(self) -> int:
        if self.lease_holder not in {"", "uninstall"}:
            raise TimeoutError
        self.fleet.writes.about_to("take the Lease")
        self.lease_holder = "uninstall"
        self.lease_epoch = 1 + max(self.lease_epoch or 0, self.head_epoch)
        return self.lease_epoch

    async def raise_epoch(self, above: int) -> int:
        self.lease_epoch = above + 1
        return self.lease_epoch

    async def release(self) -> None:
        self.lease_holder = ""

    # ── What tests do ──

    async def uninstall(self) -> Remainder:
        return await Uninstall(
            installation=self,
            leader=self,
            cells=self.fleet.ports.cells,
            gateways=self.fleet.ports.gateways,
            where="release roadstead in namespace roadstead",
            say=self.said.append,
            clock=lambda: self.now,
            pause=self.pause,
        ).run()

    def end(self) -> dict[str, object]:
        """Everything that an uninstalled fleet is judged by."""
        return {
            "operators": self.operator_pods,
            "routes": self.fleet.routes,
            "slots": self.fleet.applications,
            "budgets": self.budget_names,
            "pods": self.pods_by_name,
            "records": self.record_names,
            "tests": self.test_names,
            "held": [str(key) for key, model in self.fleet.models.items() if model.finalized],
            "models": sorted(str(key) for key in self.fleet.models),
            "statuses": {
                str(key): [(row.type, row.status.value, row.reason.value) for row in report.conditions]
                for key, report in self.fleet.statuses.items()
                if key in self.fleet.models
            },
            "lease": self.lease_epoch,
            "weights": {name: sorted(node.weights) for name, node in self.fleet.nodes.items()},
            "releases": {uid: len(kept) for uid, kept in self.fleet.releases.items()},
        }


async def site() -> Site:
    """Two nodes that serve two models, one of which is being deleted, with a request under way."""
    nodes = {name: MemoryNode(budget=600 * MIB, files={"file:///small": SMALL}) for name in ("n1", "n2")}
    fleet = MemoryFleet(nodes=nodes)
    variant = VariantSpec(name="q8", source="file:///small")
    fleet.apply("kept", variant, replicas=2)
    fleet.apply("deleted", variant)
    await fleet.settle()
    fleet.delete(ModelKey("team", "deleted"))
    assert fleet.applications
    fleet.in_flight = {next(iter(fleet.applications)): 3}
    fleet.writes.clear()
    pods = {
        f"{role}-{node}": MemoryPod(role=role, node=node) for role in (PodRole.AGENT, PodRole.WORKER) for node in nodes
    }
    return Site(fleet=fleet, pods_by_name=pods, budget_names=set(pods))


DONE: dict[str, object] = {
    "operators": [],
    "routes": {},
    "slots": {},
    "budgets": set(),
    "pods": {},
    "records": set(),
    "tests": set(),
    "held": [],
    "models": ["team/kept"],
    "statuses": {"team/kept": [("Ready", "False", "Orphaned")]},
    "lease": None,
}


async def test_what_is_left_is_what_must_be_left() -> None:
    world = await site()
    before = world.end()

    assert await world.uninstall() == Remainder()

    assert world.end() == DONE | {"weights": before["weights"], "releases": before["releases"]}


async def test_nobody_writes_then_nobody_is_sent_then_nothing_serves_then_nothing_runs() -> None:
    world = await site()

    await world.uninstall()

    kinds = [
        "scale", "take", "withdraw", "configure -team.", "unprotect", "remove worker", "remove agent",
        "remove roadstead-pool", "status", "forget",
    ]  # fmt: skip
    places = {kind: [n for n, w in enumerate(world.fleet.writes) if w.startswith(kind)] for kind in kinds}
    assert all(places.values()), places
    for earlier, later in itertools.pairwise(kinds):
        assert max(places[earlier]) < min(places[later]), f"{earlier} before {later}"


async def test_run_twice_is_run_once() -> None:
    world = await site()
    await world.uninstall()
    once, writes = world.end(), len(world.fleet.writes)

    assert await world.uninstall() == Remainder()

    assert world.end() == once
    assert world.fleet.writes[writes:] == ["take the Lease", "forget the Lease"]


async def test_killed_at_any_write_and_run_again_it_ends_in_the_same_place() -> None:
    whole = await site()
    await whole.uninstall()

    for place in range(len(whole.fleet.writes)):
        world = await site()
        world.fleet.writes.kill_before = place
        with pytest.raises((Killed, ExceptionGroup)):
            await world.uninstall()

        assert await world.uninstall() == Remainder(), f"killed before {whole.fleet.writes[place]}"
        assert world.end() == whole.end()


async def test_requests_under_way_finish_before_their_slots_end() -> None:
    world = await site()
    world.fleet.in_flight = {next(iter(world.fleet.applications)): 9}

    await world.uninstall()

    first = next(n for n, line in enumerate(world.said) if "are to end" in line)
    assert any("waiting for gateways to finish, 5 of 30 s: gateway-0 (" in line for line in world.said[:first])


async def test_a_request_that_does_not_end_costs_its_bound_and_a_warning() -> None:
    world = await site()
    world.requests_end_per_second = 0

    remainder = await world.uninstall()

    assert remainder == Remainder(left=("what is under way at these gateways is cut: gateway-0 (3 requests)",))
    assert world.end()["pods"] == {}


async def test_a_gateway_that_does_not_answer_costs_its_bound_and_a_warning() -> None:
    world = await site()
    world.fleet.gateway_answers = False

    remainder = await world.uninstall()

    assert remainder.left == ("these gateways do not answer, and may still send requests: gateway-0",)
    assert world.end()["held"] == []


async def test_a_head_that_does_not_answer_leaves_its_slots_to_the_end_of_their_pods() -> None:
    world = await site()
    world.fleet.cell_answers = False

    remainder = await world.uninstall()

    assert remainder.left == ("what these cells serve is not known, and ends with its Pods: cell-0",)
    assert world.end()["pods"] == {}
    assert world.now <= Bounds().seconds


async def test_pods_on_a_lost_node_are_told_and_hold_nothing_up() -> None:
    world = await site()
    world.pods_by_name["worker-n2"].node_lost = True

    remainder = await world.uninstall()

    assert remainder.left == ("these Pods have not ended (is their node out of reach?): worker-n2",)
    assert remainder.held == ()
    assert world.end()["held"] == []


async def test_an_operator_that_does_not_end_is_told_and_the_lease_is_not_waited_for_for_ever() -> None:
    world = await site()
    world.operators_stuck = True

    remainder = await world.uninstall()

    assert remainder.left[0].startswith("these operator Pods do not end")
    assert remainder.left[1].startswith("the Lease was not free within 20 s")
    assert world.end()["held"] == []


async def test_a_model_that_cannot_be_let_go_is_held_and_the_others_are_not() -> None:
    world = await site()
    world.refusing_to_let_go = {ModelKey("team", "kept")}

    remainder = await world.uninstall()

    assert remainder.held == ("team/kept: Invalid: another controller objects",)
    assert ModelKey("team", "deleted") not in world.fleet.models
    assert world.lease_epoch is not None, "the next run must still lead with a higher epoch"


async def test_models_that_cannot_even_be_listed_are_a_failure() -> None:
    world = await site()
    world.listing_fails = True

    assert (await world.uninstall()).held == ("no LocalModel could be listed: Forbidden: may not list localmodels",)


async def test_a_head_that_has_seen_a_higher_epoch_is_written_to_with_a_higher_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await site()
    cells = world.fleet.ports.cells
    honest = type(cells).configure

    async def fenced(self: object, cell: str, **what: object) -> None:
        if (world.lease_epoch or 0) <= 40:
            raise FencedError("older", epoch=40)
        await honest(self, cell, **what)  # type: ignore[arg-type]

    monkeypatch.setattr(type(cells), "configure", fenced)

    assert await world.uninstall() == Remainder()
    assert world.end()["slots"] == {}


def test_the_waits_take_together_what_they_were_given() -> None:
    assert Bounds().seconds <= 270, "helm uninstall waits 300 s, and a Job has to start"
    assert Bounds().within(600).seconds == pytest.approx(600)
    assert Bounds().within(100).seconds == pytest.approx(100)
    assert Bounds().within(100).lease == Bounds().lease
