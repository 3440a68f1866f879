"""The Protocols through which the services reach the world; the adapters answer to them, tests put memory behind them.

Readers return what is already known and never wait for the network: keeping it fresh is the adapter's work, telling how
fresh it is (Known, Stale, Unknown) its duty. Writers do one idempotent thing within a timeout and raise a
:class:`DoorError` when it was not done or it is not known whether it was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from roadstead.domain.engine_log import EngineLog
from roadstead.domain.inventory import DeviceSlice
from roadstead.domain.measured import Shown
from roadstead.domain.model import FieldProblem, Model, ModelKey, ModelSpec
from roadstead.domain.plan import ModelReport, PoolReport, World
from roadstead.domain.release import Artifact, Content, Release
from roadstead.domain.slot import Slot
from roadstead.domain.snapshot import (
    AgentFacts,
    Cell,
    EngineBuild,
    GatewayFacts,
    LedgerFacts,
    Node,
    Part,
    Pool,
    Resolution,
    ResolutionKey,
    Route,
)
from roadstead.domain.workload import ClaimWish, NodePod, PodWish, Workloads


class DoorError(Exception):
    """Something outside refused or did not answer. The next turn sees the world as it then is and decides again."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class FencedError(DoorError):
    """A door has seen a higher epoch than ours: somebody else may lead. The leader service decides what that means."""

    def __init__(self, message: str, *, epoch: int) -> None:
        super().__init__("StaleEpoch", message)
        self.epoch = epoch


class Cluster(Protocol):
    """The API server: intent, releases, routes, nodes."""

    @property
    def synced(self) -> bool:
        """Whether every list has been read once; before that nothing is planned."""

    def models(self) -> tuple[Model, ...]: ...

    def pools(self) -> tuple[Pool, ...]: ...

    def nodes(self) -> Mapping[str, Node]: ...

    def device_slices(self) -> Mapping[str, tuple[DeviceSlice, ...]]:
        """By node; nothing where the cluster has no drivers that publish devices."""

    def releases(self) -> Mapping[str, tuple[Release, ...]]:
        """By uid of the LocalModel, ascending by number."""

    def routes(self) -> Mapping[ModelKey, Route]: ...

    @property
    def workloads(self) -> Workloads | None:
        """What the chart says about agents' and workers' Pods; None where they are not Pods."""

    def pods(self) -> tuple[NodePod, ...]:
        """Agents' and workers' Pods, also those that are being deleted."""

    def claims(self) -> frozenset[str]:
        """Names of the nodes' claims."""

    def budgets(self) -> frozenset[str]:
        """Names of the PodDisruptionBudgets of agents and workers."""

    def adoptions(self) -> Mapping[str, tuple[EngineBuild, ...]]:
        """By pool; a record of an earlier pool of the same name is none."""

    async def set_finalizer(self, model: Model) -> None: ...

    async def clear_finalizer(self, model: Model) -> None: ...

    async def keep_release(self, model: Model, release: Release) -> None:
        """Write the release as an immutable ControllerRevision; one that exists with the same content is success."""

    async def forget_release(self, model: Model, number: int) -> None:
        """Remove the ControllerRevision of a release; one that is gone is success."""

    async def publish_route(self, route: Route) -> None: ...

    async def withdraw_route(self, route: Route) -> None: ...

    async def publish_status(self, report: ModelReport) -> None:
        """Server-side apply of ``status``, skipped when nothing but time would change."""

    async def publish_pool(self, report: PoolReport) -> None:
        """The same of a WorkerPool; where the operator may not write it, that is no error."""

    async def record_adoption(self, pool: str, engines: tuple[EngineBuild, ...]) -> None: ...

    async def keep_claim(self, claim: ClaimWish) -> None:
        """Create the claim; one that exists is success, whatever it looks like."""

    async def run_pod(self, pod: PodWish) -> None:
        """Create the Pod; one of that name is success."""

    async def remove_pod(self, name: str, *, uid: str, grace_seconds: int | None) -> None:
        """Delete the Pod if it still is this one; one that is gone, or another, is success."""

    async def protect_pod(self, name: str) -> None:
        """Create the PodDisruptionBudget for the Pod of that name, ``minAvailable: 1``; one that exists is success."""

    async def unprotect_pod(self, name: str) -> None:
        """Delete the PodDisruptionBudget; one that is gone is success."""


class Agents(Protocol):
    """The node agents."""

    def facts(self) -> Mapping[str, Part[AgentFacts]]: ...

    async def resolve(self, key: ResolutionKey) -> Resolution:
        """Never raises: an agent that cannot be asked is ``Unresolved`` with ``AgentUnavailable``."""

    async def fetch(self, node: str, *, artifact: Artifact, source: str) -> None: ...

    async def forget(self, node: str, *, digest: str) -> None: ...


class ReadSpec(Protocol):
    """How a LocalModel's ``spec`` is read."""

    def __call__(self, raw: object, *, name: str) -> tuple[ModelSpec | None, tuple[FieldProblem, ...]]:
        """With defaults filled in, or what is wrong with it; ``name`` is that of the object."""


class EngineLogs(Protocol):
    """What engines said, from the agents of the nodes that ran them."""

    async def listed(self, node: str) -> tuple[EngineLog, ...]:
        """Every log that the node still has, also of slots that are gone."""

    def lines(self, log: EngineLog, *, lines: int, follow: bool) -> AsyncGenerator[str, None]:
        """The last lines, then with ``follow`` new ones for ever; a log that is not there yet is then waited for."""


class Cells(Protocol):
    """The Ray clusters, each behind its head agent."""

    def cells(self) -> tuple[Cell, ...]: ...

    async def configure(self, cell: str, *, base: str, put: tuple[Slot, ...], remove: tuple[str, ...]) -> None: ...


class Gateways(Protocol):
    """The gateways' internal doors."""

    def facts(self) -> Mapping[str, Part[GatewayFacts]]: ...


class Ledger(Protocol):
    """Postgres: the permanent record."""

    def facts(self) -> Part[LedgerFacts]: ...

    async def number_release(self, model: Model, contents: tuple[Content, ...], *, above: int = 0) -> int:
        """Record artifacts, contents and release; the same set of contents returns to its old number.

        A new number is greater than ``above``, the highest that the API server holds for this model: a ledger that was
        restored from an older backup must not give one twice.
        """

    async def reconcile(self, world: World) -> None:
        """Open and close rows until they equal the world."""

    async def remember(self, shown: Shown) -> None:
        """Write what is news of measurements; without news nothing is written."""
