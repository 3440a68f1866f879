"""`roadstead models`, `nodes`, `plan` and `logs` about a running fleet."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fixtures.embedded_fleet import NAMESPACE, EmbeddedFleet

pytestmark = pytest.mark.integration


def roadstead(fleet: EmbeddedFleet, *arguments: str) -> str:
    """What the command prints in the folder of the fleet."""
    done = subprocess.run(
        [sys.executable, "-m", "roadstead.cli.main", *arguments],
        env={**fleet.environment, "ROADSTEAD_HOME": str(fleet.home.root), "COLUMNS": "250"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_what_runs_where_and_why_is_shown(fleet: EmbeddedFleet, anchor: str) -> None:
    rows = [line.split() for line in roadstead(fleet, "models").splitlines()]
    assert [NAMESPACE, anchor, "Ready", "1/1"] in [row[:4] for row in rows]
    assert f"{NAMESPACE}/{anchor} q4 1/1" in roadstead(fleet, "nodes")
    plan = roadstead(fleet, "plan", anchor)
    assert f"{NAMESPACE}/{anchor}  1 of 1 replicas answer, release 1  Ready" in plan
    assert "by the leader." in plan


async def test_the_engine_s_own_lines_are_shown_with_their_origin(fleet: EmbeddedFleet, anchor: str) -> None:
    model = fleet.model(anchor)
    assert model is not None
    (slot,) = model.slots
    lines = roadstead(fleet, "logs", anchor, "-n", "1000").splitlines()
    assert {" ".join(line.split(" ")[:2]) for line in lines} == {f"{slot['node']} {slot['name']}.0"}
    assert any("listening" in line for line in lines)
