"""The operator as a process of its own, to be killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_END_SECONDS = 30.0


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
        "ROADSTEAD_LISTEN": f"127.0.0.1:{_free_port()}",
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@dataclass(slots=True, kw_only=True)
class OperatorProcess:
    """One operator at a time; ``log`` gathers what all of them said."""

    environment: Mapping[str, str]
    log: Path
    lives: int = 0
    """How often it was started."""
    _process: asyncio.subprocess.Process | None = field(default=None)

    async def start(self) -> None:
        """Start it; it leads when it has read the lists."""
        with self.log.open("ab") as said:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "roadstead.runtime", env=dict(self.environment), stderr=said
            )
        self.lives += 1

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.returncode if self._process is not None else None

    @property
    def pid(self) -> int:
        """Of the living one."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def end(self) -> None:
        """SIGTERM: it lets its last turn end and gives the Lease back; SIGKILL if that takes too long."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
