"""The table of routes the gateway works by: models and names to balancers, changed one route at a time.

Cost follows the change: a new version of one route rebuilds that route's balancer and its names, nothing else. The
table is the property of the event loop, so a request sees it before or after a change, never between.

``namespace/name`` always finds its model. A short name belongs to one route; while two claim it (the operator is
about to move it), it stays with the one that had it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roadstead_gateway.balance import Balancer
from roadstead_gateway.contract import RouteSeen, RouteSpec
from roadstead_gateway.tallies import CounterBook, SlotCounters

log = structlog.stdlib.get_logger(__name__)


class RouteInvalid(ValueError):
    """An object that is no ModelRoute; carries its name and what is wrong, never its contents."""


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str
    resource_version: str = Field(alias="resourceVersion")


class _Object(BaseModel):
    model_config = ConfigDict(extra="ignore")
    metadata: _Metadata
    spec: RouteSpec


@dataclass(frozen=True, slots=True)
class Route:
    """One version of one ModelRoute."""

    name: str
    resource_version: str
    spec: RouteSpec

    @classmethod
    def parse(cls, found: Mapping[str, object]) -> Route:
        """Read an object as the API server gives it."""
        try:
            read = _Object.model_validate(found)
        except ValidationError as error:
            places = ", ".join(".".join(map(str, line["loc"])) for line in error.errors(include_input=False)[:5])
            raise RouteInvalid(f"not a ModelRoute: {places}") from None
        return cls(read.metadata.name, read.metadata.resource_version, read.spec)

    def as_object(self) -> dict[str, object]:
        """The same, as ``parse`` reads it."""
        return {
            "metadata": {"name": self.name, "resourceVersion": self.resource_version},
            "spec": self.spec.model_dump(mode="json", by_alias=True),
        }


class Entry:
    """A route in force."""

    __slots__ = ("balancer", "counters", "route")

    def __init__(self, route: Route, book: CounterBook, before: Entry | None) -> None:
        spec = route.spec
        self.route = route
        self.counters: dict[str, SlotCounters] = {}
        for slot in spec.slots:
            counters = book.of(slot.name, model=spec.model, variant=slot.variant, node=slot.node)
            counters.forget_idle(slot.addresses)
            self.counters[slot.name] = counters
        balancer_before: Balancer | None = before.balancer if before else None
        seats = ((slot, self.counters[slot.name]) for slot in spec.slots)
        self.balancer: Balancer = Balancer(seats, before=balancer_before)

    @property
    def public_names(self) -> tuple[str, ...]:
        """What clients are told the model is called: its short names, else its full one."""
        return self.route.spec.names or (self.route.spec.model,)


class RouteTable:
    """All routes in force."""

    def __init__(self, book: CounterBook) -> None:
        self._book = book
        self._entries: dict[str, Entry] = {}
        self._by_model: dict[str, Entry] = {}
        self._by_name: dict[str, Entry] = {}
        self.version = 0
        """Rises with every change, so that whoever keeps the routes knows when to write."""

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, model: str) -> Entry | None:
        """The route of ``namespace/name`` or of a short name."""
        return self._by_model.get(model) or self._by_name.get(model)

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def routes(self) -> tuple[Route, ...]:
        return tuple(entry.route for entry in self._entries.values())

    def seen(self) -> tuple[RouteSeen, ...]:
        return tuple(
            RouteSeen(name=entry.route.name, resource_version=entry.route.resource_version)
            for entry in self._entries.values()
        )

    def put(self, route: Route) -> None:
        """This version is in force from now on."""
        before = self._entries.get(route.name)
        if before is not None and before.route == route:
            return
        entry = Entry(route, self._book, before)
        self._entries[route.name] = entry
        if before is not None:
            self._book.unlist(before.counters.keys() - entry.counters.keys())
            self._release(before, successor=entry)
        self._by_model[route.spec.model] = entry
        self._claim(entry, route.spec.names)
        self.version += 1
        log.info("route_in_force", route=route.name, version=route.resource_version, slots=len(route.spec.slots))

    def drop(self, name: str) -> None:
        """The route is gone: no new requests, those under way finish."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        self._book.unlist(entry.counters)
        self._release(entry, successor=None)
        self.version += 1
        log.info("route_gone", route=name)

    def replace(self, routes: Iterable[Route], *, keep: Iterable[str] = ()) -> None:
        """These are all the routes there are, but for those in ``keep``, which stay as they are."""
        listed = {route.name: route for route in routes}
        for name in self._entries.keys() - listed.keys() - frozenset(keep):
            self.drop(name)
        for route in listed.values():
            self.put(route)

    def _claim(self, entry: Entry, names: Iterable[str]) -> None:
        for name in names:
            holder = self._by_name.setdefault(name, entry)
            if holder is not entry:
                log.warning("name_contested", name=name, holder=holder.route.name, claimant=entry.route.name)

    def _release(self, entry: Entry, *, successor: Entry | None) -> None:
        """Take back what ``entry`` held. Names its successor still has pass to it, others to whoever claims them."""
        model = entry.route.spec.model
        if self._by_model.get(model) is entry:
            del self._by_model[model]
        inherited = frozenset(successor.route.spec.names) if successor else frozenset()
        for name in entry.route.spec.names:
            if self._by_name.get(name) is not entry:
                continue
            del self._by_name[name]
            if successor is not None and name in inherited:
                self._by_name[name] = successor
            else:
                self._pass_on(name)

    def _pass_on(self, name: str) -> None:
        for claimant in self._entries.values():
            if name in claimant.route.spec.names:
                self._by_name[name] = claimant
                return
