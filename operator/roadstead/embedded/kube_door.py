"""The few API server requests that a supervisor makes: apply, read, renew a Lease.

The operator's adapters are not used: this runs in the supervisor's one loop without threads, and needs three verbs.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from pydantic import BaseModel, ConfigDict, Field

FIELD_MANAGER = "roadstead-embedded"
_TIMEOUT = aiohttp.ClientTimeout(total=10.0)


class KubeError(Exception):
    """The API server refused, with its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class _Cluster(BaseModel):
    server: str
    authority: str = Field(alias="certificate-authority-data")


class _User(BaseModel):
    certificate: str = Field(alias="client-certificate-data")
    key: str = Field(alias="client-key-data")


class _NamedCluster(BaseModel):
    cluster: _Cluster


class _NamedUser(BaseModel):
    user: _User


class _Kubeconfig(BaseModel):
    """The shape that `certificates.write_kubeconfig` writes; no other is promised to work."""

    model_config = ConfigDict(extra="ignore")
    clusters: list[_NamedCluster]
    users: list[_NamedUser]


@dataclass(frozen=True, slots=True)
class KubeDoor:
    """An open connection to one API server."""

    session: aiohttp.ClientSession
    server: str
    tls: ssl.SSLContext

    async def apply(self, path: str, body: dict[str, Any], *, subresource: str = "") -> dict[str, Any]:
        """Server-side apply of `body` at `path`; what others own stays."""
        url = f"{path}/{subresource}" if subresource else path
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._ask("PATCH", url, params=query, body=body, kind="application/apply-patch+yaml")

    async def get(self, path: str) -> dict[str, Any] | None:
        """The object, None if there is none."""
        try:
            return await self._ask("GET", path)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def delete(self, path: str) -> None:
        """Ask for its end; gone already is as good."""
        try:
            await self._ask("DELETE", path)
        except KubeError as error:
            if error.status != 404:
                raise

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        kind: str = "application/json",
    ) -> dict[str, Any]:
        async with self.session.request(
            method, f"{self.server}{path}", params=params, json=body, headers={"Content-Type": kind}, ssl=self.tls
        ) as response:
            answer = await response.json(content_type=None)
            if response.status >= 400:
                raise KubeError(response.status, str(answer.get("message", answer)))
            return dict(answer)


@asynccontextmanager
async def open_door(kubeconfig: Path) -> AsyncIterator[KubeDoor]:
    """Connect with the administrator's certificate."""
    parsed = _Kubeconfig.model_validate(yaml.safe_load(kubeconfig.read_text()))
    cluster, user = parsed.clusters[0].cluster, parsed.users[0].user
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster.authority).decode())
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(base64.b64decode(user.certificate) + base64.b64decode(user.key))
        pair.flush()
        tls.load_cert_chain(pair.name)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        yield KubeDoor(session, cluster.server, tls)
