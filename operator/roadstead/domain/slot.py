"""Slots: one Ray Serve application each, a content on a node in one device shape.

The name says it all and is at most 63 characters, so that it fits a Kubernetes label and a Serve application's name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from roadstead.domain.model import ModelKey
from roadstead.domain.release import Content

_NAME_LIMIT = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of the node one replica uses."""

    threads: int
    """Engine threads; more than the free cores makes a CPU engine collapse."""
    devices: int = 0
    """Accelerators of each replica; 0: it runs on the processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A slot as the plan wants it."""

    model: ModelKey
    release: int
    """The newest release that this slot was placed for."""
    content: Content
    node: str
    shape: Shape
    replicas: int
    memory_bytes: int
    """Of the host, what each replica takes a lease for."""
    device_bytes: int = 0
    """The same on each of its accelerators."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Ids of the accelerators of each replica; none on the processor."""
    attempt: int = 0
    """Raised to make Ray try a failed application again."""

    @property
    def name(self) -> str:
        """The name of the slot and of its Serve application."""
        return slot_name(self.model, content_hash=self.content.hash, node=self.node, shape=self.shape)


def slot_name(model: ModelKey, *, content_hash: str, node: str, shape: Shape) -> str:
    """``<namespace>.<model>.<content8>.<node>``; hashed at the end where that exceeds 63 characters."""
    told = f"{content_hash}/{shape.threads}" + (f"/{shape.devices}" if shape.devices else "")
    tag = hashlib.sha256(told.encode()).hexdigest()[:8]
    return shortened(f"{model.namespace}.{model.name}.{tag}.{node}")


def route_prefix(slot: str) -> str:
    """Path under which a slot's Serve application answers, on the proxy and on each replica's own port."""
    return f"/s/{slot}"


def shortened(name: str) -> str:
    """The name itself up to 63 characters (a label's value), else cut and hashed at the end."""
    if len(name) <= _NAME_LIMIT:
        return name
    suffix = "." + hashlib.sha256(name.encode()).hexdigest()[:12]
    return name[: _NAME_LIMIT - len(suffix)].rstrip("-.") + suffix
