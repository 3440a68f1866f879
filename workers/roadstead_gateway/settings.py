"""What a gateway is told when it starts: environment variables ``ROADSTEAD_*``, and ``KUBECONFIG``.

Secrets come as files, never as variables: a file can be replaced while the gateway runs and shows up in no process
listing.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

HostPort = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+):[0-9]{1,5}$")]


def split_host_port(text: str) -> tuple[str, int]:
    """``127.0.0.1:80`` or ``[::1]:80`` in its parts."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _kubeconfig() -> Path | None:
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(first) if first else None


class Settings(BaseSettings):
    """Everything that can be set; times in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="ROADSTEAD_", frozen=True, extra="ignore")

    listen: HostPort = "127.0.0.1:8080"
    """Where clients call."""
    internal_listen: HostPort = "127.0.0.1:8081"
    """Where the operator, probes and Prometheus call; not for clients."""
    namespace: str = "roadstead-system"
    """Where the ModelRoutes are."""
    keys_file: Path
    """Lines of a sha256 in hex, then optionally a blank and a comment; read again within 2 s of a change."""
    replica_token_file: Path
    """The secret that replicas demand of us."""
    door_token_file: Path
    """The secret we demand of whoever asks for the tallies."""
    state_dir: Path
    """Where the last good routes are kept; losing it costs nothing while the API server answers."""
    log_level: str = "INFO"
    kubeconfig: Path | None = Field(default_factory=_kubeconfig)
    """From ``KUBECONFIG`` (its first path); without it the pod's service account is used."""
    identity: str = Field(default_factory=socket.gethostname)
    """How this gateway calls itself in the tallies: by default the pod's name."""
    body_limit_bytes: int = 8 * 1024 * 1024
    """Larger requests get 413."""
    body_seconds: float = 30.0
    """A client that has not sent its whole request by then gets 408."""
    connect_seconds: float = 3.0
    """A replica that does not take the connection by then is passed over; nothing has been sent to it."""
    silence_seconds: float = 600.0
    """A replica that sends nothing for so long has failed. Not retried: it may be at work."""
    drain_seconds: float = 60.0
    """How long streams may go on after SIGTERM; must be below the pod's grace period."""
