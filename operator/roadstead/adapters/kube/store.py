"""What is known of one kind: parsed objects by key, the newest version of each, and a poke when something matters.

Three sources write here: lists, watch events and the answers to our own writes. They arrive in any order, so versions
decide: an older one never replaces a newer, and an answer that comes late does not bring back what was deleted.
Comparing resource versions as numbers is what Kubernetes promises since 1.35.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import structlog

from roadstead.adapters.kube.api import Object

T = TypeVar("T")
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""

Poke = Callable[[str], None]
"""Says why somebody should look at the world again."""

_log = structlog.get_logger(__name__)


class Unreadable(Exception):
    """An object that cannot be used at all; it is logged and treated as absent."""


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """What was understood of an object that somebody told of."""

    key: Key
    uid: str
    version: int
    value: T | Unreadable


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """One object."""

    uid: str
    version: int
    value: T


class Store(Generic[T]):
    """The objects of one kind. Not to be shared between threads.

    ``relevant`` picks what of a value is worth a poke when it changes; by default all of it.
    """

    def __init__(
        self,
        kind: str,
        *,
        parse: Callable[[Object], T],
        poke: Poke,
        relevant: Callable[[T], object] = lambda value: value,
    ) -> None:
        self._kind = kind
        self._parse = parse
        self._relevant = relevant
        self._poke = poke
        self._objects: dict[Key, Stored[T]] = {}
        self._gone: dict[Key, int] = {}
        """Version up to which an object is known to be deleted."""
        self._listed = 0
        """Version of the last list: what it did not hold was gone by then."""
        self.latest = 0
        """The newest version that anything told."""
        self.synced = False

    def __len__(self) -> int:
        return len(self._objects)

    def values(self) -> Iterable[T]:
        """All objects, in no particular order."""
        return [stored.value for stored in self._objects.values()]

    def get(self, key: Key) -> Stored[T] | None:
        return self._objects.get(key)

    def put(self, obj: Object) -> None:
        """An object as an event or the answer to a write told it."""
        key, version = key_of(obj), version_of(obj)
        known = self._objects.get(key)
        if version <= max(self._deleted_up_to(key), known.version if known is not None else 0):
            return  # before it is understood, which costs more
        self._keep(self.read(obj))

    def read(self, obj: Object) -> Read[T]:
        """What this store would keep of an object; nothing is kept yet."""
        return Read(key_of(obj), obj["metadata"].get("uid", ""), version_of(obj), self._understood(obj))

    def _understood(self, obj: Object) -> T | Unreadable:
        try:
            return self._parse(obj)
        except Unreadable as error:
            return Unreadable(str(error))  # without its traceback, which holds the object

    def drop(self, obj: Object) -> None:
        """An object that is deleted; ``obj`` is its last state."""
        key, version = key_of(obj), version_of(obj)
        self.latest = max(version, self.latest)
        self._gone[key] = max(version, self._gone.get(key, 0))
        stored = self._objects.get(key)
        if stored is not None and (stored.version <= version or stored.uid == obj["metadata"].get("uid")):
            self._forget(key)

    def forget(self, key: Key) -> None:
        """An object that we deleted ourselves; a later one of the same name is another."""
        stored = self._objects.get(key)
        if stored is not None:
            self._gone[key] = max(stored.version, self._gone.get(key, 0))
            self._forget(key)

    def replace(self, objects: Iterable[Read[T]], resource_version: str) -> int:
        """A whole list. Returns how many objects it added, changed or removed against what was known.

        What it does not hold is dropped, except what was written after it was made.
        """
        listed = int(resource_version or 0)
        self.latest = max(listed, self.latest)
        present = {read.key: read for read in objects}
        changes = 0
        for key in [key for key, stored in self._objects.items() if key not in present and stored.version <= listed]:
            self._forget(key)
            changes += 1
        for key, read in present.items():
            if read.version > self._gone.get(key, 0):
                changes += self._keep(read)
        self._gone = {key: version for key, version in self._gone.items() if version > listed or key in present}
        self._listed = max(listed, self._listed)
        if not self.synced:
            self.synced = True
            self._poke(f"{self._kind} listed")
        return changes

    def begin_anew(self) -> None:
        """Forget versions, not objects: those that come next are of another history and count as newer."""
        self._objects = {key: replace(stored, version=-1) for key, stored in self._objects.items()}
        self._gone.clear()
        self._listed = self.latest = 0

    def _deleted_up_to(self, key: Key) -> int:
        return max(self._gone.get(key, 0), 0 if key in self._objects else self._listed)

    def _keep(self, read: Read[T]) -> bool:
        self.latest = max(read.version, self.latest)
        known = self._objects.get(read.key)
        if known is not None and read.version <= known.version:
            return False
        if isinstance(read.value, Unreadable):
            namespace, name = read.key
            _log.warning("object unreadable", kind=self._kind, namespace=namespace, name=name, why=str(read.value))
            self._forget(read.key)
            return True
        self._objects[read.key] = Stored(read.uid, read.version, read.value)
        if known is None or known.uid != read.uid or self._relevant(known.value) != self._relevant(read.value):
            self._told(read.key, "changed" if known else "new")
        return True

    def _forget(self, key: Key) -> None:
        if self._objects.pop(key, None) is not None:
            self._told(key, "gone")

    def _told(self, key: Key, what: str) -> None:
        if self.synced:
            self._poke(f"{self._kind} {'/'.join(part for part in key if part)} {what}")


def key_of(obj: Object) -> Key:
    metadata = obj["metadata"]
    return (metadata.get("namespace", ""), metadata["name"])


def version_of(obj: Object) -> int:
    return int(obj["metadata"].get("resourceVersion", 0))
