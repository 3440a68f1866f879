"""The life of ``ray start`` under its keeper, with small programs in Ray's place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadstead_worker.process_tree import descendants
from roadstead_worker.ray.waiting import head_answers

# A keeper in a process of its own: it reaps every child and takes the process's signals.
_KEEPER = """
import asyncio, sys
from roadstead_worker.ray.command import RayStart
from roadstead_worker.ray.keeping import RayKeeper

async def main():
    keeper = RayKeeper(grace_seconds=0.3)
    keeper.watch_signals()
    return await keeper.run(RayStart((sys.executable, "-c", sys.argv[1]), {"GIVEN": "yes"}))

sys.exit(asyncio.run(main()))
"""
# A daemon that has left its parent, a stubborn child, and their parent that ends when told or by itself.
_STUBBORN = """
import os, signal, subprocess, sys, time
sleeper = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
start = lambda: subprocess.Popen([sys.executable, "-c", sleeper], stdout=subprocess.PIPE, start_new_session=True)
if os.fork() == 0:
    start().stdout.readline()
    os._exit(0)
os.wait()
start().stdout.readline()
print("up", os.environ["GIVEN"], flush=True)
"""


@contextlib.contextmanager
def kept(program: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", _KEEPER, program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up yes\n"
        yield process
    finally:
        below = descendants(process.pid)
        process.kill()
        process.wait()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def living(pids: list[int]) -> list[int]:
    """Those that run; a zombie that nobody has reaped yet does not."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(pid)
    return found


def test_asked_to_end_it_ends_all_that_ignores_it_and_says_that_all_is_well() -> None:
    with kept(_STUBBORN + "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)") as keeper:
        below = descendants(keeper.pid)
        assert len(below) == 3
        keeper.terminate()
        assert keeper.wait(10) == 0
        assert not living(below)


def test_when_ray_ends_by_itself_the_rest_is_ended_and_the_kubelet_is_told() -> None:
    with kept(_STUBBORN + "time.sleep(0.2); sys.exit(0)") as keeper:
        below = descendants(keeper.pid)
        assert keeper.wait(10) == 1
        assert not living(below)


def test_orphans_that_end_leave_no_zombies() -> None:
    orphan = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(0.1)
    os._exit(0)
os.wait()
print("up", os.environ["GIVEN"], flush=True)
time.sleep(60)
"""
    with kept(orphan) as keeper:
        children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
        deadline = time.monotonic() + 10
        while len(children.read_text().split()) != 1:
            assert time.monotonic() < deadline, children.read_text()


async def test_a_worker_joins_as_soon_as_its_head_listens() -> None:
    placeholder = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = placeholder.sockets[0].getsockname()[1]
    placeholder.close()
    await placeholder.wait_closed()
    waiting = asyncio.create_task(head_answers(f"127.0.0.1:{port}", stopping=asyncio.Event()))
    done, _ = await asyncio.wait((waiting,), timeout=0.1)
    assert not done
    async with (
        await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port),
        asyncio.timeout(5),
    ):
        assert await waiting


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379"])
async def test_a_worker_that_is_asked_to_end_waits_for_no_head(address: str) -> None:
    stopping = asyncio.Event()
    waiting = asyncio.create_task(head_answers(address, stopping=stopping))
    await asyncio.sleep(0)
    stopping.set()
    async with asyncio.timeout(10):
        assert await waiting is False
