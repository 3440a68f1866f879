"""One simulated Ray cluster with its head agent.

The rules are those of the real parts: the head agent checks shape, epoch and base; Ray ignores what is identical,
starts anew what has other ``args``, adds and ends replicas where only their number changed, and goes on listing what it
takes down, without its configuration, until the last replica has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from roadstead_worker.agent.cell_changes import PublishedCell
from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.agent.serve_config import ConfigInvalid, base_digest, checked_applications
from roadstead_worker.contract import (
    ApplicationState,
    CellState,
    ConfigRequest,
    ReplicaState,
    SlotArgs,
    SlotUserConfig,
    WorkerState,
)
from tests.simulation.line import Line
from tests.simulation.node import HeldLease, MemoryEpoch, SimulatedNode
from tests.simulation.pace import Pace

_TELL_SECONDS = 0.05
"""Changes so close to each other are told together."""
_FIRST_PORT = 30_000


@dataclass(slots=True, eq=False)
class Application:
    """One Serve application."""

    config: dict[str, Any]
    args: SlotArgs
    ready: set[int] = field(default_factory=set)
    """Replicas that answer."""
    started: set[int] = field(default_factory=set)
    """Replicas that have their lease."""
    leaving: bool = False

    @property
    def name(self) -> str:
        return self.args.slot

    @property
    def replicas(self) -> int:
        return int(self.config["deployments"][0]["num_replicas"])

    @property
    def user_config(self) -> SlotUserConfig:
        return SlotUserConfig.model_validate(self.config["deployments"][0]["user_config"])


@dataclass(slots=True, kw_only=True)
class SimulatedCell:
    """Ray and the head agent beside it."""

    name: str
    nodes: Mapping[str, SimulatedNode]
    pace: Pace
    applications: dict[str, Application] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    """Nodes whose raylet Ray has given up."""
    line: Line = field(default_factory=Line)
    epoch: MemoryEpoch = field(default_factory=MemoryEpoch)
    published: PublishedCell = field(default_factory=PublishedCell)
    telling: asyncio.TimerHandle | None = None

    @property
    def base(self) -> str:
        """Digest of what is in force."""
        return base_digest(app.config for app in self.applications.values() if not app.leaving)

    # --- what the operator says ---

    def put(self, wanted: ConfigRequest) -> str:
        """Replace the configuration; its digest. Raises ``DoorProblem``."""
        try:
            given = {each["name"]: each for each in checked_applications(wanted.applications)}
        except ConfigInvalid as error:
            raise DoorProblem(status=400, code="ConfigInvalid", message=str(error), field=error.field) from None
        if wanted.base != self.base:
            raise DoorProblem(status=412, code="BaseChanged", message="the cell has another configuration")
        for name in self.applications.keys() - given.keys():
            self._take_down(self.applications[name])
        for config in given.values():
            self._deploy(config)
        self.publish()
        return self.base

    def _deploy(self, config: dict[str, Any]) -> None:
        known = self.applications.get(config["name"])
        args = SlotArgs.model_validate(config["args"])
        if known is None or known.leaving or known.args != args:
            if known is not None:
                self._end(known, set(known.started))
            app = self.applications[config["name"]] = Application(config, args)
        else:
            app = known
            app.config = config
            self._end(app, {index for index in app.started if index >= app.replicas})
        self._start(app)

    def _take_down(self, app: Application) -> None:
        if app.leaving:
            return
        app.leaving = True
        app.ready.clear()
        asyncio.get_running_loop().call_later(self.pace.teardown, self._gone, app)

    def _gone(self, app: Application) -> None:
        self._end(app, set(app.started))
        if self.applications.get(app.name) is app:
            del self.applications[app.name]
        self.tell()

    # --- replicas ---

    def start_waiting(self) -> None:
        """Memory came free or a node came back: whatever waits for it tries again."""
        for app in self.applications.values():
            self._start(app)

    def _start(self, app: Application) -> None:
        node = self.nodes.get(app.args.node)
        if app.leaving or node is None or not node.alive:
            return
        memory = app.user_config.memory_bytes
        for index in range(app.replicas):
            if index in app.started:
                continue
            wanted = HeldLease(app.name, index, app.args.content, app.args.artifact, memory)
            if not node.grant(wanted):
                return
            app.started.add(index)
            if app.args.artifact not in node.broken:
                asyncio.get_running_loop().call_later(self.pace.startup, self._answers, app, index)
        self.tell()

    def _answers(self, app: Application, index: int) -> None:
        if index in app.started and not app.leaving and self.applications.get(app.name) is app:
            app.ready.add(index)
            self.tell()

    def _end(self, app: Application, replicas: set[int]) -> None:
        app.ready -= replicas
        app.started -= replicas
        node = self.nodes.get(app.args.node)
        if node is not None:
            node.end((app.name, index) for index in replicas)

    # --- nodes ---

    def lose(self, node: str) -> None:
        """The machine died: its replicas are gone, and Ray notices after a while."""
        for app in self.applications.values():
            if app.args.node == node:
                app.ready.clear()
                app.started.clear()
        asyncio.get_running_loop().call_later(self.pace.death, self._notice, node)

    def regain(self, node: str) -> None:
        """The machine is back."""
        self.dead.discard(node)
        self.start_waiting()
        self.tell()

    def _notice(self, node: str) -> None:
        if not self.nodes[node].alive:
            self.dead.add(node)
            self.tell()

    # --- what is told ---

    def tell(self) -> None:
        """Something changed: tell it soon."""
        if self.telling is None:
            self.telling = asyncio.get_running_loop().call_later(_TELL_SECONDS, self.publish)

    def publish(self) -> None:
        """Tell what is."""
        if self.telling is not None:
            self.telling.cancel()
            self.telling = None
        nodes = tuple(name for name in self.nodes if name not in self.dead)
        self.published.publish(
            CellState(
                digest="",
                epoch=self.epoch.current,
                cell=self.name,
                base=self.base,
                reachable=True,
                nodes=nodes,
                workers=tuple(WorkerState(node=name) for name in sorted(nodes)),
                applications=tuple(self._told(app) for _, app in sorted(self.applications.items())),
            )
        )

    def _told(self, app: Application) -> ApplicationState:
        node = self.nodes.get(app.args.node)
        noticed = app.args.node in self.dead or node is None
        listed = app.started if app.leaving else range(app.replicas)
        return ApplicationState(
            name=app.name,
            status=self._status(app, node),
            message="the engine says no" if node is not None and app.args.artifact in node.broken else "",
            addresses=tuple(f"{node.address}:{_FIRST_PORT + index}" for index in sorted(app.ready) if node is not None),
            replicas=tuple(
                ReplicaState(id=f"{app.name}#{index}", state="RUNNING" if index in app.ready else "STARTING")
                for index in sorted(listed)
                if not (noticed and app.leaving)
            ),
            config={} if app.leaving else app.config,
        )

    def _status(self, app: Application, node: SimulatedNode | None) -> str:
        if app.leaving:
            return "DELETING"
        if node is not None and app.started and app.args.artifact in node.broken:
            return "DEPLOY_FAILED"
        return "RUNNING" if len(app.ready) == app.replicas else "DEPLOYING"
