"""Ray Serve's REST API (2.60), as far as the head agent reads and writes it. Ray itself is never imported.

Read leniently (Ray adds fields), written strictly (Ray drops unknown keys silently, so a typo would vanish).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roadstead_worker.contract import IMAGE_LABEL, NODE_LABEL, WorkerState

_READ_SECONDS: Final = 20.0
_WRITE_SECONDS: Final = 60.0


class RayAway(Exception):
    """Ray's dashboard does not answer, or with something that is not understood."""


class RayRefused(Exception):
    """Ray found the configuration invalid; the message is Ray's."""


class Echo(BaseModel):
    """Base of what Ray tells."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RayReplica(Echo):
    replica_id: str
    state: str
    node_ip: str | None = None
    pid: int | None = None
    actor_name: str | None = None


class RayDeployment(Echo):
    status: str
    message: str = ""
    replicas: list[RayReplica] = Field(default_factory=list)


class RayApplication(Echo):
    name: str
    status: str
    message: str = ""
    deployed_app_config: dict[str, Any] | None = None
    source: str | None = None
    deployments: dict[str, RayDeployment] = Field(default_factory=dict)

    @property
    def replicas(self) -> list[RayReplica]:
        return [replica for deployment in self.deployments.values() for replica in deployment.replicas]


class RayTarget(Echo):
    ip: str
    port: int
    name: str = ""
    """Actor name of the replica, or of the proxy when no replica runs."""


class RayTargetGroup(Echo):
    app_name: str | None = None
    protocol: str = "HTTP"
    targets: list[RayTarget] = Field(default_factory=list)


class RayServe(Echo):
    """``GET /api/serve/applications/``; empty while Serve has not been started."""

    applications: dict[str, RayApplication] = Field(default_factory=dict)
    target_groups: list[RayTargetGroup] = Field(default_factory=list)


class _RayNode(Echo):
    state: str
    labels: dict[str, str] | None = None


class _RayNodeList(Echo):
    result: list[_RayNode]


class _RayNodeData(Echo):
    result: _RayNodeList


class _RayNodeAnswer(Echo):
    data: _RayNodeData


class RayDashboard:
    """One Ray head's dashboard. Every call has a timeout; all raise ``RayAway``."""

    def __init__(self, *, address: str, token: Path | None, session: aiohttp.ClientSession) -> None:
        self._address = address.rstrip("/")
        self._token = token
        self._session = session

    async def serve(self) -> RayServe:
        """What Serve holds and does."""
        body = await self._request("GET", "/api/serve/applications/", seconds=_READ_SECONDS)
        try:
            return RayServe.model_validate_json(body)
        except ValidationError as error:
            raise RayAway(f"Ray's list of applications is not understood: {error}") from error

    async def put(self, config: dict[str, Any]) -> None:
        """Replace the whole configuration. Raises ``RayRefused`` if it is invalid."""
        await self._request("PUT", "/api/serve/applications/", seconds=_WRITE_SECONDS, body=config)

    async def living_workers(self) -> tuple[WorkerState, ...]:
        """Node and image of all raylets that live and carry our node label, sorted, each pair once."""
        body = await self._request("GET", "/api/v0/nodes?detail=1&limit=10000", seconds=_READ_SECONDS)
        try:
            nodes: Sequence[_RayNode] = _RayNodeAnswer.model_validate_json(body).data.result.result
        except ValidationError as error:
            raise RayAway(f"Ray's list of nodes is not understood: {error}") from error
        labels = (node.labels or {} for node in nodes if node.state == "ALIVE")
        found = {(label[NODE_LABEL], label.get(IMAGE_LABEL, "")) for label in labels if NODE_LABEL in label}
        return tuple(WorkerState(node=node, image=image) for node, image in sorted(found))

    async def _request(self, method: str, path: str, *, seconds: float, body: dict[str, Any] | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {self._bearer()}"} if self._token is not None else {}
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(
                method, self._address + path, json=body, headers=headers, timeout=timeout
            ) as answer:
                text = await answer.read()
                if answer.status == 400:
                    raise RayRefused(text.decode(errors="replace")[-2000:])
                if answer.status != 200:
                    raise RayAway(f"Ray answered {answer.status} to {method} {path}: {text[:300]!r}")
                return text
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RayAway(f"Ray does not answer {method} {path}: {error!r}") from error

    def _bearer(self) -> str:
        return self._token.read_text().strip() if self._token is not None else ""
