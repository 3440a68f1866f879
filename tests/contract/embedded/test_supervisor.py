"""The supervisor against real processes: order, restarts, orphans, and what a killed one leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadstead.embedded.home import Home
from roadstead.embedded.process_table import ProcessIdentity
from roadstead.embedded.processes import ProcessReport, ProcessState
from roadstead.embedded.state import FleetPhase, FleetState, leftovers, read_state
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract
TOY = Path(__file__).with_name("toy_fleet.py")


class Toy:
    """One toy fleet and the means to look at it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.supervisors: list[subprocess.Popen[bytes]] = []

    async def start(self) -> subprocess.Popen[bytes]:
        process = self._spawn()
        await until(lambda: self.state_of(process) is not None and self.up(), "every process is up", seconds=20)
        return process

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.supervisors.append(subprocess.Popen([sys.executable, TOY, str(self.home.root)], start_new_session=True))
        return self.supervisors[-1]

    def state_of(self, process: subprocess.Popen[bytes]) -> FleetState | None:
        state = read_state(self.home.state_file)
        return state if state is not None and state.supervisor.pid == process.pid else None

    def up(self) -> bool:
        return all(self.report(name).settled for name in ("first", "once", "restless", "stubborn"))

    def report(self, name: str) -> ProcessReport:
        state = read_state(self.home.state_file)
        found = state.process(name) if state else None
        assert found is not None
        return found

    def identity(self, name: str) -> ProcessIdentity:
        found = self.report(name).identity
        assert found is not None
        return found

    def living(self) -> list[int]:
        return [row.pid for row in leftovers(read_state(self.home.state_file), mark=self.home.identity)()]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    monkeypatch.setenv("ROADSTEAD_RUNTIME", str(tmp_path / "run"))
    made = Toy(Home.of(tmp_path / "home"))
    yield made
    for process in made.supervisors:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
    for pid in made.living():
        os.kill(pid, signal.SIGKILL)


async def test_processes_start_in_order_and_a_step_runs_once(toy: Toy) -> None:
    await toy.start()
    assert toy.report("once").state is ProcessState.DONE
    assert (toy.report("first").started_at or 0) <= (toy.report("once").started_at or 0)
    assert (toy.report("once").since) <= (toy.report("restless").started_at or 0)


async def test_what_fails_is_tried_again_and_said_why(toy: Toy) -> None:
    await toy.start()
    await until(lambda: toy.report("hopeless").failures >= 2, "it was tried twice")
    assert "exited with 3" in toy.report("hopeless").detail or toy.report("hopeless").state is ProcessState.STARTING
    assert "no such harbour" in toy.home.log("hopeless").read_text()


async def test_a_killed_process_is_back_and_its_orphan_is_gone(toy: Toy) -> None:
    await toy.start()
    before, others = toy.identity("restless"), toy.identity("stubborn")
    orphans = len(toy.living())
    os.kill(before.pid, signal.SIGKILL)
    await until(
        lambda: toy.identity("restless") != before and toy.report("restless").state is ProcessState.READY,
        "another one is ready",
    )
    assert toy.report("restless").restarts == 1
    assert toy.identity("stubborn") == others
    await until(lambda: len(toy.living()) <= orphans, "the orphan of the killed one is gone")


async def test_a_process_that_is_held_down_stays_down_until_it_is_let_go(toy: Toy) -> None:
    await toy.start()
    before = toy.identity("restless")
    toy.home.held.mkdir()
    held = toy.home.held / "restless"
    held.touch()
    os.kill(before.pid, signal.SIGKILL)
    await until(lambda: toy.report("restless").detail == f"held down: remove {held}", "it is held, and says by what")
    assert toy.identity("restless") == before
    held.unlink()
    await until(
        lambda: toy.identity("restless") != before and toy.report("restless").state is ProcessState.READY,
        "another one is ready",
    )


async def test_the_end_is_complete_even_for_who_will_not_go(toy: Toy) -> None:
    supervisor = await toy.start()
    supervisor.terminate()
    assert supervisor.wait(20) == 0
    state = read_state(toy.home.state_file)
    assert state is not None
    assert state.phase is FleetPhase.STOPPED
    assert toy.living() == []


async def test_a_start_after_a_killed_supervisor_finds_a_clean_machine(toy: Toy) -> None:
    supervisor = await toy.start()
    left = [toy.identity(name) for name in ("first", "restless", "stubborn")]
    supervisor.kill()
    supervisor.wait(10)
    assert toy.identity("stubborn").alive()
    await toy.start()
    assert not any(identity.alive() for identity in left)
    assert toy.identity("stubborn").alive()
