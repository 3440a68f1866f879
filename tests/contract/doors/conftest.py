"""Doors, a directory that lists them, and a clock that the test moves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict

import pytest

from roadstead.adapters.directory import FileDirectory
from roadstead.adapters.doors.watch import Backoff
from tests.contract.doors.scripted_door import TOKEN, ScriptedDoor


class Given(TypedDict):
    token_file: Path
    epoch: Callable[[], int]
    clock: Callable[[], datetime]
    poke: Callable[[str], None]
    backoff: Backoff


class Operator:
    """What an adapter is given by the runtime."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime(2026, 3, 1, 8, tzinfo=UTC)
        self.pokes: list[str] = []
        self.epoch = 7
        self.backoff = Backoff(first=0.02, most=0.05)
        self.token_file = folder / "door.token"
        self.token_file.write_text(TOKEN + "\n")
        self.file = folder / "directory.json"
        self.directory = FileDirectory(self.file)
        self.lists()

    def clock(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def given(self) -> Given:
        """What doors that are written to are opened with, besides the directory."""
        return {
            "token_file": self.token_file,
            "epoch": lambda: self.epoch,
            "clock": self.clock,
            "poke": self.pokes.append,
            "backoff": self.backoff,
        }

    def lists(
        self,
        *,
        agents: dict[str, str] | None = None,
        cells: dict[str, str] | None = None,
        gateways: dict[str, str] | None = None,
    ) -> None:
        """Urls by name."""
        content = {
            "agents": [{"node": name, "url": url} for name, url in (agents or {}).items()],
            "cells": [
                {"name": name, "url": url, "host": "127.0.0.10", "nodes": ["node-a", "node-b"]}
                for name, url in (cells or {}).items()
            ],
            "gateways": [{"name": name, "internal_url": url} for name, url in (gateways or {}).items()],
        }
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps(content))
        beside.rename(self.file)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


@pytest.fixture
async def door() -> AsyncIterator[ScriptedDoor]:
    async with ScriptedDoor() as door:
        yield door
