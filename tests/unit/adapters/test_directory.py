"""The directory file: re-read when it changes, and never worse than it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roadstead.adapters.directory import EMPTY, AgentDoor, CellDoor, FileDirectory, GatewayDoor

GOOD = {
    "agents": [{"node": "node-a", "url": "http://127.0.0.1:1/"}],
    "cells": [{"name": "cell-1", "url": "http://127.0.0.1:2", "host": "127.0.0.10", "nodes": ["node-a"], "new": 1}],
    "gateways": [{"name": "gateway", "internal_url": "http://127.0.0.1:3"}],
}


def test_doors_are_listed_by_name(tmp_path: Path) -> None:
    file = tmp_path / "directory.json"
    directory = FileDirectory(file)
    assert directory.listing() == EMPTY
    file.write_text(json.dumps(GOOD))
    listing = directory.listing()
    assert listing.agents == {"node-a": AgentDoor(node="node-a", url="http://127.0.0.1:1")}
    assert listing.cells == {
        "cell-1": CellDoor(name="cell-1", url="http://127.0.0.1:2", host="127.0.0.10", nodes=frozenset({"node-a"}))
    }
    assert listing.gateways == {"gateway": GatewayDoor(name="gateway", url="http://127.0.0.1:3")}
    assert directory.listing() is listing


@pytest.mark.parametrize(
    "broken",
    [
        "",
        '{"agents": [',
        '{"agents": [{"node": "node-b"}]}',
        '{"agents": [{"node": "node-b", "url": "file:///etc"}]}',
        '{"agents": [{"node": "n", "url": "http://a"}, {"node": "n", "url": "http://b"}]}',
        "\u0000\u00ff",
    ],
)
def test_a_broken_file_changes_nothing(broken: str, tmp_path: Path) -> None:
    file = tmp_path / "directory.json"
    file.write_text(json.dumps(GOOD))
    directory = FileDirectory(file)
    good = directory.listing()
    file.write_text(broken)
    assert directory.listing() is good
    file.unlink()
    assert directory.listing() is good
    file.write_text("{}")
    assert directory.listing() == EMPTY
