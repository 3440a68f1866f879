"""The operator of a scene: it may end by itself, and its exit status then says why; and it can be held still."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from tests.simulation.operator_process import OperatorProcess


@dataclass(slots=True, kw_only=True)
class SceneOperator(OperatorProcess):
    """What the simulation starts and kills, looked at more closely."""

    lives: int = 0
    """How often it was started."""

    async def start(self, *, identity: str = "") -> None:
        await OperatorProcess.start(self, identity=identity)
        self.lives += 1

    @property
    def exit_status(self) -> int | None:
        """None while it runs, or before it was started."""
        return self._process.returncode if self._process is not None else None

    def freeze(self) -> None:
        """SIGSTOP: it does nothing, and does not know."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self._pid, signal.SIGCONT)

    @property
    def _pid(self) -> int:
        assert self._process is not None, "it was never started"
        return self._process.pid
