"""`roadstead up` and `roadstead down` for a person: the same steps as `running`, with words."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from roadstead.embedded.binaries import Binaries, find_or_build_binaries
from roadstead.embedded.first_answer import Answer, first_answer
from roadstead.embedded.fleet import Fleet, fingerprint
from roadstead.embedded.home import Home
from roadstead.embedded.processes import ProcessReport
from roadstead.embedded.progress import Progress, duration
from roadstead.embedded.running import (
    Started,
    end_fleet,
    read_ports,
    start_supervisor,
    supervisor_runs,
    wait_until_settled,
)
from roadstead.embedded.state import FleetPhase, FleetState, read_state

_UP_SECONDS = 420.0
"""For all processes; a first start of Ray on a loaded machine takes minutes."""


@dataclass(slots=True)
class _Story:
    """Says of each process once that it is there, and meanwhile what is waited for."""

    progress: Progress
    told: set[str] = field(default_factory=set)

    def follow(self, state: FleetState) -> None:
        for note in state.notes:
            self._once(note)
        for report in state.processes:
            if report.settled:
                self._once(f"{report.name} {_how_long(report)}")
            elif report.failures:
                self._once(f"{report.name} {report.detail}; it is started again")
        waited = [report.name for report in state.processes if not report.settled]
        if waited:
            done = len(state.processes) - len(waited)
            self.progress.update(f"{done} of {len(state.processes)} are ready; waiting for {', '.join(waited)}")

    def _once(self, sentence: str) -> None:
        if sentence not in self.told:
            self.told.add(sentence)
            self.progress.say(sentence)


def bring_up(home: Home, progress: Progress, *, only: tuple[str, ...] = (), example: bool = True) -> Answer | None:
    """Bring the fleet up, whatever state it is in; what already runs as wanted is left alone."""
    home.create()
    binaries = find_or_build_binaries(progress)
    if supervisor_runs(home) and not _as_wanted(home, binaries, only):
        progress.say("the running fleet differs from what is asked for: it is stopped and started anew")
        end_fleet(home)
    process = None
    if not supervisor_runs(home):
        process = start_supervisor(home, only=only)
    try:
        wait_until_settled(Started(home, process), deadline_seconds=_UP_SECONDS, follow=_Story(progress).follow)
    finally:
        progress.finish()
    fleet = Fleet(home, read_ports(home), binaries)
    if only or not example:
        return None
    return asyncio.run(first_answer(home, gateway_url=fleet.gateway_url, api_key=fleet.api_key, progress=progress))


def take_down(home: Home, progress: Progress) -> None:
    """End every process; a fleet that does not run is no error."""
    ran = supervisor_runs(home)

    def follow(state: FleetState) -> None:
        left = [report.name for report in state.processes if report.identity and report.identity.alive()]
        progress.update(f"stopping; {len(left)} still run: {', '.join(left)}")

    try:
        ended = end_fleet(home, follow=follow)
    finally:
        progress.finish()
    if ended:
        progress.say(f"ended {ended} processes that were left over")
    progress.say("the fleet is down; its data stay" if ran or ended else "no fleet was running")


def _as_wanted(home: Home, binaries: Binaries, only: tuple[str, ...]) -> bool:
    state = read_state(home.state_file)
    if state is None or state.phase is not FleetPhase.RUNNING:
        return False
    try:
        fleet = Fleet(home, read_ports(home), binaries)
        return fingerprint(fleet.specs(only)) == state.fingerprint
    except (OSError, ValueError, KeyError):
        return False


def _how_long(report: ProcessReport) -> str:
    seconds = report.since - (report.started_at or report.since)
    return f"is {report.state.value} after {duration(seconds) if seconds >= 1 else f'{seconds:.1f} s'}"
