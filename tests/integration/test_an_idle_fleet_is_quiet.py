"""An idle fleet leaves the API server alone. ``ROADSTEAD_IDLE_SECONDS`` makes it longer: the claim is five minutes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.patience import found

pytestmark = [pytest.mark.integration, pytest.mark.engines]

IDLE_SECONDS = float(os.environ.get("ROADSTEAD_IDLE_SECONDS", "30"))
_QUIET = 5


async def test_an_idle_fleet_makes_no_mutating_call_but_leases(fleet: EmbeddedFleet, anchor: str) -> None:
    await fleet.answers(anchor)
    await found(lambda: _quiet_for_a_moment(fleet), "the end of what earlier tests began", seconds=60)
    before = len(fleet.audit())
    # To be idle is to let time pass: there is nothing to wait for but its end.
    await asyncio.sleep(IDLE_SECONDS)
    after = fleet.audit()[before:]
    assert any(_resource(entry) == "leases" for entry in after), "the audit log records what is done"
    assert list(_other_than_leases(after)) == []


async def _quiet_for_a_moment(fleet: EmbeddedFleet) -> bool | None:
    before = len(fleet.audit())
    await asyncio.sleep(_QUIET)
    return None if list(_other_than_leases(fleet.audit()[before:])) else True


def _other_than_leases(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        if _resource(entry) != "leases":
            yield f"{entry['verb']} {entry['requestURI']} by {entry['userAgent']}"


def _resource(entry: dict[str, Any]) -> str:
    return str(entry.get("objectRef", {}).get("resource"))
