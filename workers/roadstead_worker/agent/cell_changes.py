"""A cell's state, told to those who know an earlier one by what became other since.

A cell of 250 slots is 600 KB, and what happens to it is mostly one slot at a time. Who asks for
``GET /state?after=<digest>&changes=1`` gets only the applications that are other than in the state of that digest, and
the names of those that are gone; everything, if that state is not remembered.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from roadstead_worker.agent.longpoll import PublishedState
from roadstead_worker.contract import ApplicationState, CellState

_REMEMBERED: Final = 32
"""States; of each, its applications' names and fingerprints."""


class PublishedCell(PublishedState[CellState]):
    """What a head agent has seen last, and what was other before."""

    def __init__(self) -> None:
        super().__init__()
        self._fingerprints: OrderedDict[str, Mapping[str, bytes]] = OrderedDict()
        """Of the applications, by digest of the state."""

    def publish(self, state: CellState) -> bool:
        """As for any state; whether anything changed."""
        changed = super().publish(state)
        if changed and self.state is not None:
            self._fingerprints[self.state.digest] = {each.name: _fingerprint(each) for each in state.applications}
            self._fingerprints.move_to_end(self.state.digest)
            while len(self._fingerprints) > _REMEMBERED:
                self._fingerprints.popitem(last=False)
        return changed

    def body(self, *, after: str, changes: bool) -> bytes:
        """The state, or what became other since ``after``."""
        before, state = self._fingerprints.get(after), self.state
        if not changes or before is None or state is None:
            return super().body(after=after, changes=changes)
        now = self._fingerprints[state.digest]
        difference = {
            "since": after,
            "gone": tuple(name for name in before if name not in now),
            "applications": tuple(each for each in state.applications if before.get(each.name) != now[each.name]),
        }
        return state.model_copy(update=difference).model_dump_json().encode()


def _fingerprint(application: ApplicationState) -> bytes:
    return hashlib.blake2b(application.model_dump_json().encode(), digest_size=16).digest()
