"""Ports are chosen once, kept, and only moved away from a stranger."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

import pytest

from roadstead.embedded.ports import PortWish, choose_ports, is_free

WISHES = (PortWish("a"), PortWish("b"), PortWish("workers", "127.0.0.9", count=100))


def test_every_wish_gets_free_ports_of_its_own(tmp_path: Path) -> None:
    ports, sentences = choose_ports(WISHES, remembered=tmp_path / "ports.json")
    assert sentences == []
    assert ports["a"] != ports["b"]
    assert all(is_free("127.0.0.1", ports[name]) for name in ("a", "b"))


def test_ports_stay_away_from_what_the_kernel_and_ray_give_out(tmp_path: Path) -> None:
    ports, _ = choose_ports(WISHES, remembered=tmp_path / "ports.json")
    assert 20_000 <= ports["a"] < 30_000
    assert 10_002 <= ports["workers"] <= 19_999 - 100


def test_a_second_start_finds_the_same_ports(tmp_path: Path) -> None:
    first, _ = choose_ports(WISHES, remembered=tmp_path / "ports.json", chance=random.Random(1))
    second, sentences = choose_ports(WISHES, remembered=tmp_path / "ports.json", chance=random.Random(2))
    assert (second, sentences) == (first, [])


def test_a_port_that_a_stranger_took_is_chosen_anew_and_said(tmp_path: Path) -> None:
    first, _ = choose_ports(WISHES, remembered=tmp_path / "ports.json")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", first["a"]))
        stranger.listen()
        second, sentences = choose_ports(WISHES, remembered=tmp_path / "ports.json", patience_seconds=0)
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]
    assert sentences == [f"port {first['a']} of a is taken by another program; it moves to {second['a']}"]


@pytest.mark.parametrize("content", ["", "[]", '{"a": "x"}', '{"a": 99999999}', '{"a": 1, "b"'])
def test_a_damaged_memory_is_no_reason_to_fail(tmp_path: Path, content: str) -> None:
    (tmp_path / "ports.json").write_text(content)
    ports, _ = choose_ports(WISHES, remembered=tmp_path / "ports.json")
    assert json.loads((tmp_path / "ports.json").read_text()) == ports
