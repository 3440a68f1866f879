"""Settings of a node agent, from environment variables.

Secrets are files, never variables: a variable is shown by ``ps e`` and inherited by children.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from roadstead_worker.agent.devices_nvidia import LIBRARY
from roadstead_worker.contract import EngineOffer

_OFFERS: TypeAdapter[tuple[EngineOffer, ...]] = TypeAdapter(tuple[EngineOffer, ...])


class NodeSettings(BaseSettings):
    """Each field is read from ``ROADSTEAD_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="ROADSTEAD_", frozen=True, extra="ignore")

    node: str = Field(min_length=1, max_length=253)
    """Name of the Kubernetes Node this agent speaks for."""
    store: Path
    """Folder of the weight store, leases, measurements and the agent's socket; absolute and short."""
    listen: str = "127.0.0.1:7441"
    """``host:port`` of the operator's door; port 0 takes a free one and logs it."""
    door_token_file: Path
    """File with the bearer that the operator shows."""
    budget_file: Path | None = None
    """JSON ``{"memory_bytes": n, "cores": n}``: what engines may use. Without it, the next two."""
    memory_bytes: int | None = Field(default=None, ge=0, lt=2**60)
    """What engines may use in a container that is not this one. Without it, the machine (or this one's cgroup)."""
    cores: int | None = Field(default=None, ge=1, le=4096)
    """Likewise; without it, the machine's (or this cgroup's)."""
    source_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Colon-separated folders from which ``file://`` sources may be read; empty: none."""
    http_hosts: Annotated[frozenset[str], NoDecode] = frozenset()
    """Comma-separated ``host`` or ``host:port`` that may be asked by plain ``http://``; empty: none."""
    engine_offers: Annotated[tuple[EngineOffer, ...] | None, NoDecode] = None
    """JSON list of ``{"engine", "image"}`` that replicas here can start. Without it, what is installed."""
    nvml: str = LIBRARY
    """NVIDIA's management library, by name or path; where it is mounted into a container, say."""
    devices_seconds: float = Field(default=5.0, gt=0)
    """How often accelerators and their free memory are looked at."""
    disk_reserve_bytes: int = Field(default=256 * 1024 * 1024, ge=0)
    """Left free on the store's file system; a fetch that would go below is refused."""
    http_stall_seconds: float = Field(default=30.0, gt=0)
    """A server that is silent for so long in the middle of a file is given up, and asked again."""
    http_attempts: int = Field(default=5, ge=1)
    """Attempts in a row that bring nothing before a fetch is reported as failed."""
    http_backoff_seconds: float = Field(default=0.5, gt=0)
    """Pause after the first failed attempt; doubles."""
    tick_seconds: float = Field(default=1.0, gt=0)
    """How often free memory and lease files are looked at: the delay of noticing that a replica has died."""

    @property
    def engines_elsewhere(self) -> bool:
        """Whether engines run in other containers: then this one's own limits say nothing about them."""
        return self.memory_bytes is not None

    @field_validator("source_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("http_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @field_validator("engine_offers", mode="before")
    @classmethod
    def _parse_offers(cls, value: object) -> object:
        return _OFFERS.validate_json(value) if isinstance(value, str) else value

    @field_validator("source_roots")
    @classmethod
    def _absolute_roots(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for root in value:
            if not root.is_absolute():
                raise ValueError(f"{root} is not absolute")
        return value

    @field_validator("store")
    @classmethod
    def _absolute_store(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError(f"{value} is not absolute")
        return value

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f"{value!r} is not host:port")
        return value
