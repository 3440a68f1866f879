"""What was asked of an API server, read from a request's method and path; and which calls a fault is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_READING: Final = frozenset({"get", "list", "watch"})
_LEASES: Final = "leases"


@dataclass(slots=True, kw_only=True)
class Call:
    """One request."""

    verb: str
    """As in a role: ``get``, ``list``, ``watch``, ``create``, ``update``, ``patch``, ``delete``."""
    path: str
    resource: str = ""
    """Plural, with the subresource: ``localmodels/status``. Empty for discovery and health."""
    namespace: str = ""
    name: str = ""
    at: float
    """Loop time at which it came, in seconds."""
    status: int | None = None
    """What the caller was answered; None while it waits, or if it heard nothing."""

    @property
    def mutating(self) -> bool:
        """Whether it changes something when it is carried out."""
        return self.verb not in _READING

    @property
    def counted(self) -> bool:
        """Mutating, and a step of the work: a Lease is renewed by the clock, and no two runs do it equally often."""
        return self.mutating and self.resource != _LEASES

    def __str__(self) -> str:
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.verb} {self.resource or self.path}{f' {where}' if where else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which calls; what is not given matches everything."""

    verbs: tuple[str, ...] = ()
    resource: str = ""
    """``localmodels`` does not match its subresources, nor they it."""
    namespace: str = ""
    name: str = ""
    mutating: bool | None = None

    def __call__(self, call: Call) -> bool:
        """Whether the call is one of them."""
        return (
            (not self.verbs or call.verb in self.verbs)
            and self.resource in ("", call.resource)
            and self.namespace in ("", call.namespace)
            and self.name in ("", call.name)
            and self.mutating in (None, call.mutating)
        )


def read_call(method: str, path: str, query: Mapping[str, str], *, at: float) -> Call:
    """The call that a request is.

    Paths are ``/api/v1/…`` and ``/apis/<group>/<version>/…``, then ``namespaces/<namespace>/`` where there is one, then
    resource, name and subresource. ``namespaces/<name>`` itself is a resource like any other.
    """
    parts = [part for part in path.split("/") if part]
    rest = parts[2:] if parts[:1] == ["api"] else parts[3:] if parts[:1] == ["apis"] else []
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "", "")[:3]
    if method == "GET":
        watching = query.get("watch") in ("true", "1")
        verb = "watch" if watching else "get" if name or not resource else "list"
    else:
        verb = _VERBS.get(method, method.lower())
    return Call(
        verb=verb,
        path=path,
        resource="/".join(part for part in (resource, subresource) if part),
        namespace=namespace,
        name=name,
        at=at,
    )
