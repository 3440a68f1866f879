"""What the operator and the gateways say to each other: the ModelRoute and the tallies.

A ModelRoute is an object of the API server, written by the operator alone and watched by every gateway. The tallies
are served by each gateway on its internal port (``GET /internal/tallies``, bearer ``door.token``): they tell which
version of a route the gateway works by and how many requests are under way per slot, so that the operator removes a
slot only when no gateway sends to it any more.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

REPLICA_HEADER: Final = "X-Roadstead-Replica"
"""Carries the secret of ``replica.token`` to a replica. ``roadstead_worker.contract`` has the same name for it: the
gateway may not import the worker, so the word stands in both contracts and a test holds them together."""
RELEASE_HEADER: Final = "x-roadstead-release"
"""On every answer of a replica: the number of the release that answered."""
VARIANT_HEADER: Final = "x-roadstead-variant"
NODE_HEADER: Final = "x-roadstead-node"
REQUEST_ID_HEADER: Final = "x-request-id"
"""On every answer; the client's own when it sent a plain one, else made here."""
TALLIES_PATH: Final = "/internal/tallies"


class Wire(BaseModel):
    """Base: immutable, camelCase on the wire as Kubernetes objects are, unknown fields ignored (a newer operator)."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class SlotState(StrEnum):
    """What a gateway may do with a slot."""

    ACTIVE = "Active"
    DRAINING = "Draining"
    """No new requests; those under way finish."""


class RouteSlot(Wire):
    """One slot a model can be reached at."""

    name: str
    release: int
    variant: str
    node: str
    route_prefix: str
    """Stays in the path: ``http://<address><routePrefix>/v1/chat/completions``."""
    addresses: tuple[str, ...]
    """``host:port`` of running replicas."""
    weight: int
    """Share of requests among the model's active slots; 0 = none."""
    capacity: int
    """Requests one address serves at once."""
    state: SlotState = SlotState.ACTIVE


class RouteSpec(Wire):
    """``spec`` of a ModelRoute."""

    model: str
    """``namespace/name`` of the LocalModel; always routes."""
    names: tuple[str, ...]
    """Short names granted to this model; a name is granted to one model only."""
    task: str
    slots: tuple[RouteSlot, ...] = Field(default=())


class SlotTally(Wire):
    """Counters of one slot since the gateway started."""

    slot: str
    in_flight: int
    requests: int
    errors: int
    """Answers of 5xx, broken streams and connections refused."""
    tokens: int
    first_token_seconds: float
    """Sum over ``first_tokens`` answers."""
    first_tokens: int


class RouteSeen(Wire):
    """Which version of a route this gateway works by."""

    name: str
    resource_version: str


class Tallies(Wire):
    """The answer of ``GET /internal/tallies``."""

    gateway: str
    synced: bool
    """Whether the routes are watched now (False: working by the last good ones)."""
    routes: tuple[RouteSeen, ...]
    slots: tuple[SlotTally, ...]
