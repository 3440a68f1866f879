"""One kind in several namespaces: a list, a watch and a store for each, told as one.

Where the operator's rights end at some namespaces, a list over all of them is refused; so each is listed by itself.
Without namespaces there is one store for the whole cluster, and this is only a thin coat around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from roadstead.adapters.kube.api import Object
from roadstead.adapters.kube.store import Key, Store, Stored, key_of

T = TypeVar("T")
EVERYWHERE = ""


class NamespacedStores(Generic[T]):
    """The stores of one kind. What belongs to none of the namespaces is nobody's: it is neither kept nor found."""

    def __init__(self, namespaces: tuple[str, ...], make: Callable[[], Store[T]]) -> None:
        self._stores: dict[str, Store[T]] = {namespace: make() for namespace in namespaces or (EVERYWHERE,)}

    @property
    def parts(self) -> Mapping[str, Store[T]]:
        """By namespace, or one for everywhere."""
        return self._stores

    def values(self) -> Iterable[T]:
        """All objects, in no particular order."""
        return [value for store in self._stores.values() for value in store.values()]

    def get(self, key: Key) -> Stored[T] | None:
        store = self._of(key)
        return store.get(key) if store is not None else None

    def put(self, obj: Object) -> None:
        """An object as an event or the answer to a write told it."""
        store = self._of(key_of(obj))
        if store is not None:
            store.put(obj)

    def drop(self, obj: Object) -> None:
        """An object that is deleted; ``obj`` is its last state."""
        store = self._of(key_of(obj))
        if store is not None:
            store.drop(obj)

    def forget(self, key: Key) -> None:
        """An object that we deleted ourselves."""
        store = self._of(key)
        if store is not None:
            store.forget(key)

    def _of(self, key: Key) -> Store[T] | None:
        return self._stores.get(key[0], self._stores.get(EVERYWHERE))
