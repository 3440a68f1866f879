"""Takes an installation down in order: nobody writes, nobody is sent anywhere, nothing serves, nothing is held.

Each step reads what is left and removes that, so that being killed at any point and run again ends in the same place.
Each has a bound: a door that does not answer costs its seconds and a warning, and the next step follows. Only one thing
is a failure, a LocalModel that could not be let go of, because it would keep its namespace from ever being deleted.

Never touched: claims with weights, specs, ControllerRevisions, the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

from roadstead.domain.model import ConditionStatus, Model
from roadstead.domain.plan import ConditionReport, ModelReport
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import Known
from roadstead.domain.workload import PodRole
from roadstead.ports import Cells, DoorError, FencedError, Gateways

_SIDE_BY_SIDE: Final = 16
_NAMES_TOLD: Final = 5


class Installation(Protocol):
    """What one release of the chart has in the API server. Every list is read when it is asked for.

    Writers are idempotent: what is gone already is success. They raise ``DoorError``.
    """

    async def stop_operators(self) -> None:
        """Ask for no operator Pod at all."""

    async def operators(self) -> tuple[str, ...]:
        """Names of the operator Pods that still exist."""

    async def routes(self) -> tuple[str, ...]: ...

    async def withdraw_route(self, name: str) -> None: ...

    async def budgets(self) -> tuple[str, ...]:
        """PodDisruptionBudgets of agents and workers."""

    async def remove_budget(self, name: str) -> None: ...

    async def pods(self, role: PodRole) -> tuple[str, ...]:
        """The operator's own Pods of this role, also those that are ending."""

    async def remove_pod(self, name: str, *, grace_seconds: int) -> None:
        """Ask for its end, with this grace period instead of the one that it was made with."""

    async def records(self) -> tuple[str, ...]:
        """ConfigMaps in which adopted images are kept."""

    async def remove_record(self, name: str) -> None: ...

    async def tests(self) -> tuple[str, ...]:
        """Pods of ``helm test``: Helm keeps them for their logs, and forgets them."""

    async def models(self) -> tuple[Model, ...]: ...

    async def tell(self, report: ModelReport) -> None:
        """Publish the status; one that says the same already is not written."""

    async def let_go(self, model: Model) -> None:
        """Take our finalizers off, and no other's."""

    async def forget_lease(self) -> None:
        """Remove the Lease; doors keep the highest epoch themselves."""


class Leader(Protocol):
    """A candidate for the Lease."""

    async def acquire(self) -> int: ...

    async def raise_epoch(self, above: int) -> int: ...

    async def release(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long each wait may take, in seconds. Together 255: less than the 300 that `helm uninstall` waits."""

    operators: float = 45.0
    """Until the operators' Pods are gone. One on a node that is out of reach stays; its epoch is old from then on."""
    lease: float = 20.0
    """More than a Lease lasts, for an operator that was killed and could not give it back. Never less."""
    silent: float = 10.0
    """Until gateways and cells have answered once; those that have not are passed over."""
    gateways: float = 30.0
    """Until no request is under way. Longer answers are cut."""
    cells: float = 60.0
    """Until no application is left."""
    workers: float = 50.0
    """The grace period that workers are given; they end by themselves once no engine holds a lease."""
    agents: float = 10.0
    """The same of agents, which are asked when the workers are gone."""
    killed: float = 10.0
    """From the end of a grace period until the Pod is gone."""
    look: float = 0.5
    """Between two looks."""
    tell: float = 5.0
    """Between two lines about the same wait."""

    @property
    def seconds(self) -> float:
        """What all waits take together at most."""
        return self.lease + self._stretching

    @property
    def _stretching(self) -> float:
        # Gateways and cells are both waited for to answer, workers and agents both to be killed.
        ending = self.workers + self.agents + 2 * self.killed
        return self.operators + 2 * self.silent + self.gateways + self.cells + ending

    def within(self, seconds: float) -> Bounds:
        """Shorter or longer waits that take so long together; only the Lease takes what it takes."""
        factor = max(0.1, (seconds - self.lease) / self._stretching)
        return replace(
            self,
            operators=self.operators * factor,
            silent=self.silent * factor,
            gateways=self.gateways * factor,
            cells=self.cells * factor,
            workers=self.workers * factor,
            agents=self.agents * factor,
            killed=self.killed * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Remainder:
    """What could not be done."""

    left: tuple[str, ...] = ()
    """In words, a line each."""
    held: tuple[str, ...] = ()
    """LocalModels, or the attempt to list them, that failed: namespace/name and why."""


@dataclass(slots=True, kw_only=True)
class Uninstall:
    """One run. ``say`` is told what happens, a line at a time."""

    installation: Installation
    leader: Leader
    cells: Cells
    gateways: Gateways
    where: str
    """The release and its namespace, for people: what must be installed again for models to be served again."""
    say: Callable[[str], None]
    clock: Callable[[], float]
    """Seconds, from any start."""
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    bounds: Bounds = field(default_factory=Bounds)
    _left: list[str] = field(default_factory=list)
    _held: list[str] = field(default_factory=list)

    async def run(self) -> Remainder:
        """Take everything down; what could not be done is in the answer."""
        for step in (
            self._stop_operators,
            self._lead,
            self._withdraw_routes,
            self._empty_cells,
            self._remove_budgets,
            self._remove_pods,
            self._remove_remains,
            self._let_models_go,
            self._give_up_the_lease,
        ):
            try:
                await step()
            except DoorError as error:
                self._warn(str(error))
        return Remainder(left=tuple(self._left), held=tuple(self._held))

    # ── Nobody else writes ───────────────────────────────────────────────────────────────────────────────────────────

    async def _stop_operators(self) -> None:
        await self.installation.stop_operators()
        left = await self._until_none(self.installation.operators, "operator Pods", seconds=self.bounds.operators)
        if left:
            self._warn(f"these operator Pods do not end, and are shut out by their epoch: {_listed(left)}")

    async def _lead(self) -> None:
        try:
            async with asyncio.timeout(self.bounds.lease):
                epoch = await self.leader.acquire()
        except TimeoutError:
            self._warn(f"the Lease was not free within {self.bounds.lease:.0f} s: cells may refuse what follows")
            return
        self.say(f"leading with epoch {epoch}")

    # ── Nobody is sent anywhere ──────────────────────────────────────────────────────────────────────────────────────

    async def _withdraw_routes(self) -> None:
        await self._each("ModelRoutes", await self.installation.routes(), self.installation.withdraw_route)
        await self._until_none(self._silent_gateways, "gateways to answer", seconds=self.bounds.silent)
        silent = await self._silent_gateways()
        if silent:
            self._warn(f"these gateways do not answer, and may still send requests: {_listed(silent)}")
        busy = await self._until_none(self._busy_gateways, "gateways to finish", seconds=self.bounds.gateways)
        if busy:
            self._warn(f"what is under way at these gateways is cut: {_listed(busy)}")

    async def _silent_gateways(self) -> tuple[str, ...]:
        return tuple(name for name, part in self.gateways.facts().items() if not isinstance(part, Known))

    async def _busy_gateways(self) -> tuple[str, ...]:
        """Those that answer and still know a route or have a request under way."""
        known = {name: part.value for name, part in self.gateways.facts().items() if isinstance(part, Known)}
        return tuple(
            f"{name} ({sum(count for _, count in facts.in_flight)} requests)"
            for name, facts in known.items()
            if facts.routes or any(count for _, count in facts.in_flight)
        )

    # ── Nothing serves ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _empty_cells(self) -> None:
        await self._until_none(self._silent_cells, "cells to answer", seconds=self.bounds.silent)
        silent = await self._silent_cells()
        if silent:
            self._warn(f"what these cells serve is not known, and ends with its Pods: {_listed(silent)}")
        left = await self._until_none(self._empty_cells_once, "slots to end", seconds=self.bounds.cells)
        if left:
            self._warn(f"these slots have not ended, and end with their Pods: {_listed(left)}")

    async def _silent_cells(self) -> tuple[str, ...]:
        return tuple(cell.name for cell in self.cells.cells() if not isinstance(cell.facts, Known))

    async def _empty_cells_once(self) -> tuple[str, ...]:
        """Ask for the end of all slots that are still configured; the names of all that are still there."""
        left: list[str] = []
        for cell in self.cells.cells():
            if not isinstance(cell.facts, Known):
                continue
            slots = cell.facts.value.slots
            left += (slot.name for slot in slots)
            configured = tuple(slot.name for slot in slots if slot.configured)
            if configured:
                await self._empty(cell.name, base=cell.facts.value.base, remove=configured)
        return tuple(left)

    async def _empty(self, cell: str, *, base: str, remove: tuple[str, ...]) -> None:
        """Whatever hinders it, the next look sees the cell as it then is."""
        try:
            await self.cells.configure(cell, base=base, put=(), remove=remove)
            self.say(f"cell {cell}: {len(remove)} slots are to end")
        except FencedError as error:
            await self.leader.raise_epoch(error.epoch)
        except DoorError as error:
            self.say(f"cell {cell}: {error}")

    # ── Nothing runs ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _remove_budgets(self) -> None:
        await self._each("PodDisruptionBudgets", await self.installation.budgets(), self.installation.remove_budget)

    async def _remove_pods(self) -> None:
        """Workers before agents, which hold the leases of what runs in the workers; both drain by themselves.

        What they may take is said when they are asked: a kubelet cuts no preStop short that has begun.
        """
        for role, grace in ((PodRole.WORKER, self.bounds.workers), (PodRole.AGENT, self.bounds.agents)):
            pods = partial(self.installation.pods, role)
            remove = partial(self.installation.remove_pod, grace_seconds=max(1, int(grace)))
            await self._each(f"{role} Pods", await pods(), remove)
            left = await self._until_none(pods, f"{role} Pods to end", seconds=grace + self.bounds.killed)
            if left:
                self._warn(f"these Pods have not ended (is their node out of reach?): {_listed(left)}")

    async def _remove_remains(self) -> None:
        await self._each("ConfigMaps", await self.installation.records(), self.installation.remove_record)
        at_once = partial(self.installation.remove_pod, grace_seconds=0)
        await self._each("Pods of helm test", await self.installation.tests(), at_once)

    # ── Nothing is held ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _let_models_go(self) -> None:
        try:
            models = await self.installation.models()
        except DoorError as error:
            self._held.append(f"no LocalModel could be listed: {error}")
            return
        limit = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(model: Model) -> None:
            async with limit:
                await self._let_go(model)

        async with asyncio.TaskGroup() as tasks:
            for model in models:
                tasks.create_task(one(model))
        self.say(f"{len(models) - len(self._held)} of {len(models)} LocalModels are free of finalizers of ours")

    async def _let_go(self, model: Model) -> None:
        try:
            await self.installation.tell(orphaned(model, where=self.where))
        except DoorError as error:
            self._warn(f"the status of LocalModel {model.key} is not up to date: {error}")
        try:
            await self.installation.let_go(model)
        except DoorError as error:
            self._held.append(f"{model.key}: {error}")

    async def _give_up_the_lease(self) -> None:
        await self.leader.release()
        if not self._held:
            await self.installation.forget_lease()

    # ── Waiting and telling ──────────────────────────────────────────────────────────────────────────────────────────

    async def _each(self, what: str, names: Sequence[str], remove: Callable[[str], Awaitable[None]]) -> None:
        """Remove all of them; one that cannot be removed does not keep the others."""
        removed = []
        for name in names:
            try:
                await remove(name)
                removed.append(name)
            except DoorError as error:
                self._warn(f"{name} could not be removed: {error}")
        if removed:
            self.say(f"{len(removed)} {what}: {_listed(removed)} removed")

    async def _until_none(
        self, left: Callable[[], Awaitable[tuple[str, ...]]], what: str, *, seconds: float
    ) -> tuple[str, ...]:
        """Look until nothing is left or the time is over, and say now and then what is; what is left at the end."""
        began = told = self.clock()
        while names := await left():
            now = self.clock()
            if now - began >= seconds:
                break
            if now - told >= self.bounds.tell:
                told = now
                self.say(f"waiting for {what}, {now - began:.0f} of {seconds:.0f} s: {_listed(names)}")
            await self.pause(self.bounds.look)
        return names

    def _warn(self, line: str) -> None:
        self._left.append(line)
        self.say(f"warning: {line}")


def orphaned(model: Model, *, where: str) -> ModelReport:
    """What the status of a model says that nobody looks after any more."""
    ready = ConditionReport(
        type="Ready",
        status=ConditionStatus.FALSE,
        reason=Reason.ORPHANED,
        message=f"Roadstead was uninstalled ({where}): nothing serves this model. Left are its releases "
        "(ControllerRevisions), its weights in the claims roadstead-weights-NODE and its history in the ledger. "
        "Installed again, Roadstead serves it again.",
    )
    return ModelReport(
        model=model, release=None, previous=None, replicas=0, ready=0, conditions=(ready,), status=str(Reason.ORPHANED)
    )


def _listed(names: Sequence[str]) -> str:
    told = ", ".join(names[:_NAMES_TOLD])
    return told if len(names) <= _NAMES_TOLD else f"{told} and {len(names) - _NAMES_TOLD} more"
