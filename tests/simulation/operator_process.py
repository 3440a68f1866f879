"""The operator as a process of its own, to be killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.fixtures.free_ports import free_address

_END_SECONDS = 30.0
_CHILDREN_SECONDS = 5.0


def operator_environment(
    *,
    kubeconfig: Path,
    namespace: str,
    directory: Path,
    door_token: Path,
    database_url: str,
    installation: str = "",
) -> dict[str, str]:
    """Of an operator that finds its doors in a file. Its identity outlives the process, as that of a Pod does."""
    return {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubeconfig),
        "ROADSTEAD_NAMESPACE": namespace,
        "ROADSTEAD_WATCH_NAMESPACES": namespace,
        "ROADSTEAD_DIRECTORY_FILE": str(directory),
        "ROADSTEAD_DOOR_TOKEN_FILE": str(door_token),
        "ROADSTEAD_DATABASE_URL": database_url,
        "ROADSTEAD_INSTALLATION": installation,
        "ROADSTEAD_IDENTITY": f"operator-of-{namespace}",
        "ROADSTEAD_LISTEN": free_address(),
    }


@dataclass(slots=True, kw_only=True)
class OperatorProcess:
    """One operator at a time; ``log`` gathers what all of them said."""

    environment: Mapping[str, str]
    log: Path
    program: str = "roadstead.runtime"
    """The module that is run."""
    orphans: list[str] = field(default_factory=list)
    """Processes that outlived an operator that was killed."""
    _process: asyncio.subprocess.Process | None = field(default=None)

    async def start(self, *, identity: str = "") -> None:
        """Start it; it leads when it has read the lists. With another identity it is another Pod's."""
        environment = {**self.environment, **({"ROADSTEAD_IDENTITY": identity} if identity else {})}
        with self.log.open("ab") as said:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.program, env=environment, stderr=said
            )

    @property
    def ended_by_itself(self) -> bool:
        """Whether it is gone although nobody killed it."""
        return self._process is not None and self._process.returncode not in (None, -signal.SIGKILL)

    async def kill(self) -> None:
        """SIGKILL; returns when it and its children are gone, or are noted as orphans and killed."""
        if self._process is None or self._process.returncode is not None:
            return
        children = psutil.Process(self._process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=_CHILDREN_SECONDS)
        for child in alive:
            self.orphans.append(" ".join(child.cmdline()))
            child.kill()

    async def end(self) -> None:
        """SIGTERM: it lets its last turn end and gives the Lease back; SIGKILL if that takes too long."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
