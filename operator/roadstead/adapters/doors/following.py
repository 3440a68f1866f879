"""Which doors there are, followed: one watch a door, begun when the directory lists it, ended when it no longer does.

A door that moves to another address keeps what it said last, and so does one that has none for a while: that is not
asked. A door that is no longer listed is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, NoReturn, Protocol, Self, TypeVar

import structlog

from roadstead.adapters.doors.watch import DoorWatch

log = structlog.get_logger(__name__)

FOLLOW_SECONDS: Final = 1.0


class Listed(Protocol):
    @property
    def url(self) -> str: ...


D = TypeVar("D", bound=Listed)
S = TypeVar("S")
F = TypeVar("F")


@dataclass(slots=True)
class _Followed(Generic[D, S, F]):
    door: D
    watch: DoorWatch[S, F]
    task: asyncio.Task[NoReturn] | None
    """None while the door has no address."""

    def end(self) -> None:
        if self.task is not None:
            self.task.cancel()


class FollowedDoors(Generic[D, S, F]):
    """The doors of one kind. Use as an async context: it owns the tasks."""

    def __init__(
        self,
        doors: Callable[[], Mapping[str, D]],
        watch: Callable[[str], DoorWatch[S, F]],
        *,
        poke: Callable[[str], None],
        follow_seconds: float = FOLLOW_SECONDS,
    ) -> None:
        self._doors = doors
        self._watch = watch
        self._poke = poke
        self._follow_seconds = follow_seconds
        self._followed: dict[str, _Followed[D, S, F]] = {}
        self._follower: asyncio.Task[NoReturn] | None = None

    async def __aenter__(self) -> Self:
        self._look()
        self._follower = asyncio.create_task(self._follow(), name="follow the directory")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [followed.task for followed in self._followed.values() if followed.task is not None]
        if self._follower is not None:
            tasks.append(self._follower)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def get(self, name: str) -> tuple[D, DoorWatch[S, F]] | None:
        """The door and its watch, if the directory lists it."""
        followed = self._followed.get(name)
        return None if followed is None else (followed.door, followed.watch)

    def all(self) -> dict[str, tuple[D, DoorWatch[S, F]]]:
        """By name, in the order of names."""
        return {name: (followed.door, followed.watch) for name, followed in sorted(self._followed.items())}

    async def _follow(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._follow_seconds)
            self._look()

    def _look(self) -> None:
        listed = self._doors()
        for name in self._followed.keys() - listed.keys():
            self._followed.pop(name).end()
            self._poke(f"{name} is no longer listed")
        for name, door in listed.items():
            followed = self._followed.get(name)
            if followed is None:
                watch = self._watch(name)
                self._followed[name] = _Followed(door, watch, self._start(door, watch))
                continue
            if followed.task is not None and followed.task.done():
                self._report(name, followed.task)
            elif followed.door.url == door.url:
                followed.door = door
                if not door.url:
                    followed.watch.away()
                continue
            followed.end()
            followed.door, followed.task = door, self._start(door, followed.watch)

    def _start(self, door: D, watch: DoorWatch[S, F]) -> asyncio.Task[NoReturn] | None:
        return asyncio.create_task(watch.run(door.url), name=f"follow {watch.name}") if door.url else None

    def _report(self, name: str, task: asyncio.Task[NoReturn]) -> None:
        """A watch ends only by a defect of ours; one door's must not take the others along."""
        with contextlib.suppress(asyncio.CancelledError):
            log.error("door.watch_failed", name=name, exc_info=task.exception())
