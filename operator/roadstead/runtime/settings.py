"""What the operator is told from outside: environment variables with the prefix ``ROADSTEAD_``.

``KUBECONFIG`` is read by the Kubernetes client itself; without it the service account of the pod is used.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL

from roadstead.adapters.postgres.address import database_address


def _identity() -> str:
    """Random at the end, because a container's host name and pid repeat from life to life."""
    return f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"


class OperatorSettings(BaseSettings):
    """Settings of one operator process."""

    model_config = SettingsConfigDict(env_prefix="ROADSTEAD_", env_ignore_empty=True, frozen=True)

    namespace: str = "roadstead"
    """Namespace of the product: its Lease and the ModelRoutes live there."""

    watch_namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated namespaces whose LocalModels are looked after. None: all, which needs a ClusterRole."""

    workloads_file: Path | None = None
    """``workloads.yaml`` of the chart. Without it agents and workers are not Pods, and none are made."""

    directory_file: Path | None = None
    """File that lists the doors of agents, cells and gateways; re-read on change. Without it they are found by Pods."""

    door_token_file: Path
    """File with the bearer that agents, head agents and gateways demand."""

    database_url: SecretStr = SecretStr("")
    """Postgres: the ledger. Serving goes on while it is away; only new releases wait."""

    database_url_file: Path | None = None
    """File with that address, instead of it; re-read for every new connection."""

    installation: str = ""
    """Name of this installation in the ledger. Empty: uid of the namespace kube-system and ``namespace``.

    Set it after a cluster was rebuilt, so that history goes on.
    """

    listen: str = "127.0.0.1:8090"
    """Where ``/healthz``, ``/readyz`` and ``/metrics`` are served, ``host:port``."""

    api_listen: str = "127.0.0.1:8091"
    """Where the read API is served, ``host:port``."""

    api_token_file: Path | None = None
    """File with the token that the read API demands; re-read on change. Without it, the API is not served."""

    gateway_url: str = "http://roadstead-gateway.roadstead/v1"
    """What ``status.url`` tells clients to use."""

    identity: str = Field(default_factory=_identity)
    """Who holds the Lease; must differ between replicas."""

    watch_silence_seconds: float = Field(default=75.0, gt=0)
    """A watch that says nothing for so long is opened anew. The API server says something about every 60 s.

    Longer: a connection that is dead and does not know it is noticed later. Shorter than 60: every watch is opened
    again and again where nothing changes.
    """

    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.directory_file is None and self.workloads_file is None:
            raise ValueError(
                "ROADSTEAD_WORKLOADS_FILE (in a cluster) or ROADSTEAD_DIRECTORY_FILE (on one machine) has to be set: "
                "they tell where agents, cells and gateways are"
            )
        self.database_address()  # says what is wrong with it now, not at the first connection
        return self

    def database_address(self) -> Callable[[], URL]:
        """Where Postgres is. Raises ``AddressProblem``."""
        address = database_address(url=self.database_url.get_secret_value(), file=self.database_url_file)
        address()
        return address
