"""What the operator is told from outside: environment variables with the prefix ``ROADSTEAD_``.

``KUBECONFIG`` is read by the Kubernetes client itself; without it the service account of the pod is used.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _identity() -> str:
    """Random at the end, because a container's host name and pid repeat from life to life."""
    return f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"


class OperatorSettings(BaseSettings):
    """Settings of one operator process."""

    model_config = SettingsConfigDict(env_prefix="ROADSTEAD_", frozen=True)

    namespace: str = "roadstead"
    """Namespace of the product: its Lease and the ModelRoutes live there."""

    directory_file: Path
    """File that lists the doors of agents, cells and gateways; re-read on change."""

    door_token_file: Path
    """File with the bearer that agents, head agents and gateways demand."""

    database_url: SecretStr
    """Postgres: the ledger. Serving goes on while it is away; only new releases wait."""

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

    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
