"""A Pod's preStop: for how long it holds the Pod, and for whom."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from roadstead_worker.drained import leases_of_the_node, leases_of_this_container, wait
from roadstead_worker.lease_file import LEASES_FOLDER, claim, is_held, lease_path
from tests.fixtures.lease_holder import holder


def test_a_lease_that_ended_or_never_was_is_not_held(tmp_path: Path) -> None:
    path = lease_path(tmp_path, "s", 0)
    assert not is_held(path)
    mine = claim(tmp_path, "s", 1)
    assert is_held(path)
    assert mine is not None
    mine.release()
    assert path.exists()
    assert not is_held(path)


def test_looking_at_a_held_lease_takes_nothing_from_its_holder(tmp_path: Path) -> None:
    with holder(tmp_path, "s"):
        assert leases_of_the_node(tmp_path) == {"s.0.json"}
        assert claim(tmp_path, "s", 1) is None


def test_a_container_knows_its_own_leases_through_a_link_to_the_store_and_by_its_engines(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "store").symlink_to("real")
    with holder(tmp_path / "real", "s", child=True) as replica:
        assert leases_of_this_container(tmp_path / "store") == {"s.0.json"}
        replica.kill()
        assert leases_of_this_container(tmp_path / "store") == {"s.0.json"}, "its engine still holds it"
    assert leases_of_this_container(tmp_path / "store") == set()


def test_a_store_without_leases_holds_nobody(tmp_path: Path) -> None:
    assert leases_of_this_container(tmp_path) == leases_of_the_node(tmp_path) == set()


@pytest.mark.parametrize("look", [leases_of_the_node, leases_of_this_container])
def test_it_waits_with_a_word_until_the_last_lease_has_ended(tmp_path: Path, look: object) -> None:
    words: queue.SimpleQueue[str] = queue.SimpleQueue()
    with holder(tmp_path, "s", groups=2) as first, holder(tmp_path, "s", groups=2) as second:
        assert callable(look)
        waiting = threading.Thread(target=lambda: wait(lambda: look(tmp_path), words.put, look_seconds=0.01))
        waiting.start()
        assert words.get(timeout=10) == "waiting for 2 leases to end: s.0.json, s.1.json"
        first.kill()
        waiting.join(0.1)
        assert waiting.is_alive()
        second.kill()
        waiting.join(10)
        assert not waiting.is_alive()
    assert words.get(timeout=10) == "no lease is held"


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace of its own needs root here")
def test_a_worker_does_not_wait_for_another_containers_leases_but_an_agent_does(tmp_path: Path) -> None:
    def drained(role: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "roadstead_worker.drained", role]
        apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return subprocess.Popen([*apart, *command], env={**os.environ, "ROADSTEAD_STORE": str(tmp_path)})

    (tmp_path / LEASES_FOLDER).mkdir()
    with holder(tmp_path, "s") as elsewhere:
        agent = drained("agent")
        assert drained("worker").wait(20) == 0
        assert agent.poll() is None
        elsewhere.kill()
        assert agent.wait(20) == 0
