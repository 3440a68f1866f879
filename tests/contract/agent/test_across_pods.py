"""Agent and replica as in a cluster: two process-id namespaces and one volume, nothing else in common.

Each is started by ``unshare``, which needs root; a container engine does no more for these questions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from roadstead_worker.contract import EPOCH_HEADER, NodeState
from roadstead_worker.process_tree import descendants
from tests.fixtures.gguf_files import Gguf
from tests.fixtures.node_agent import TOKEN

MIB = 1024**2

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and another user need root"),
]

_AGENT = """
import sys
from roadstead_worker.agent.node import main

sys.exit(main())
"""
# Claims, asks for memory, starts an engine that holds 48 MiB and the lease, and tells what it holds.
_REPLICA = """
import asyncio, subprocess, sys
from pathlib import Path
from roadstead_worker.contract import LeaseRequest
from roadstead_worker.lease_file import claim
from roadstead_worker.replica.lease_memory import LeaseMemoryTelling
from roadstead_worker.replica.memory_claim import AgentSocket

async def main(store, digest):
    agent, lease = AgentSocket(store), claim(store, "s", 1)
    await agent.lease(LeaseRequest(slot="s", index=0, content="c0ffee", artifact=digest, bytes=16 << 20))
    engine = "import time; held = bytearray(b'x') * (48 << 20); print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", engine], pass_fds=[lease.fd], stdout=subprocess.PIPE)
    child.stdout.readline()
    telling = LeaseMemoryTelling(agent, lease, look_seconds=0.05)
    print("up", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""
_STRANGER = """
import asyncio, os, sys
from pathlib import Path
from roadstead_worker.contract import LeaseMemory
from roadstead_worker.replica.memory_claim import AgentSocket

os.setuid(10002)
asyncio.run(AgentSocket(Path(sys.argv[1])).report_memory(LeaseMemory(slot="s", index=0, bytes=0)))
"""


@pytest.fixture
def volume() -> Iterator[Path]:
    """As a volume's root is under ``fsGroup``: with the setgid bit, and a folder in it that nobody may open."""
    folder = Path(tempfile.mkdtemp(prefix="rs-"))
    (folder / "lost+found").mkdir(mode=0o000)
    folder.chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def started(
    program: str, *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program in a process-id namespace of its own, killed with all that is in it."""
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program, *arguments],
        env=environment or {},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        for pid in descendants(process.pid):  # the namespace's first process among them, with which all others end
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


@dataclass
class Agent:
    url: str
    session: aiohttp.ClientSession

    async def until(self, condition: Callable[[NodeState], object]) -> NodeState:
        async with asyncio.timeout(30):
            digest = ""
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with self.session.get(f"{self.url}/state", params={"after": digest}) as answer:
                        state = NodeState.model_validate_json(await answer.read())
                        if condition(state):
                            return state
                        digest = state.digest
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def agent_of(volume: Path, folder: Path) -> AsyncIterator[Agent]:
    """An agent in a process-id namespace of its own, as a Pod's variables describe it."""
    placeholder = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = placeholder.sockets[0].getsockname()[1]
    placeholder.close()
    await placeholder.wait_closed()
    environment = {
        "ROADSTEAD_NODE": "node-a",
        "ROADSTEAD_STORE": str(volume),
        "ROADSTEAD_LISTEN": f"127.0.0.1:{port}",
        "ROADSTEAD_DOOR_TOKEN_FILE": str(folder / "door.token"),
        "ROADSTEAD_MEMORY_BYTES": str(100 * MIB),
        "ROADSTEAD_CORES": "2",
        "ROADSTEAD_ENGINE_OFFERS": "[]",
        "ROADSTEAD_SOURCE_ROOTS": str(folder),
        "ROADSTEAD_TICK_SECONDS": "0.05",
        "ROADSTEAD_DISK_RESERVE_BYTES": "0",
    }
    headers = {"Authorization": f"Bearer {TOKEN}", EPOCH_HEADER: "1"}
    with started(_AGENT, environment=environment):
        async with aiohttp.ClientSession(headers=headers) as session:
            agent = Agent(f"http://127.0.0.1:{port}", session)
            await agent.until(lambda _: True)
            yield agent


@pytest.fixture
def folder(volume: Path) -> Iterator[Path]:
    """Readable for everybody, unlike ``tmp_path``: a token, and a model to fetch."""
    made = volume.with_name(volume.name + "-files")
    made.mkdir(mode=0o755)
    (made / "door.token").write_text(TOKEN)
    (made / "model.gguf").write_bytes(Gguf().bytes())
    yield made
    shutil.rmtree(made)


async def fetched(agent: Agent, folder: Path) -> str:
    source = f"file://{folder}/model.gguf"
    async with asyncio.timeout(30):
        while True:
            async with agent.session.post(f"{agent.url}/resolve", json={"source": source}) as answer:
                resolved = await answer.json()
                if answer.status == 200:
                    break
    body = {"source": source, "bytes": resolved["bytes"]}
    async with agent.session.put(f"{agent.url}/weights/{resolved['digest']}", json=body) as answer:
        assert answer.status == 202, await answer.text()
    await agent.until(lambda state: [each.phase for each in state.weights] == ["Ready"])
    return str(resolved["digest"])


@contextlib.asynccontextmanager
async def replica_of(volume: Path, digest: str) -> AsyncIterator[None]:
    with started(_REPLICA, str(volume), digest) as replica:
        assert replica.stdout is not None
        assert await asyncio.to_thread(replica.stdout.readline) == "up\n", replica.communicate()[1]
        yield


async def test_a_lease_its_measure_and_its_end_are_seen_by_the_agent_of_another_pod_and_by_its_successor(
    volume: Path, folder: Path
) -> None:
    async with contextlib.AsyncExitStack() as replicas:
        async with agent_of(volume, folder) as agent:
            digest = await fetched(agent, folder)
            await replicas.enter_async_context(replica_of(volume, digest))
            state = await agent.until(lambda state: state.leases and state.leases[0].bytes_measured)
            (lease,) = state.leases
            assert 48 * MIB <= lease.bytes_measured < 80 * MIB, "the engine, and not the replica"
            assert state.memory.free_bytes == 100 * MIB - lease.bytes_measured
        async with agent_of(volume, folder) as successor:
            state = await successor.until(lambda _: True)
            assert state.leases == (lease,), "from the file: a steady engine is not told again"
            await replicas.aclose()
            state = await successor.until(lambda state: not state.leases)
            assert state.memory.free_bytes == 100 * MIB


async def test_a_pod_of_another_user_is_refused_at_the_socket(volume: Path, folder: Path) -> None:
    async with agent_of(volume, folder):
        (volume / "agent.sock").chmod(0o666)  # by its mode nobody else could even connect
        with started(_STRANGER, str(volume)) as stranger:
            _, complaint = await asyncio.to_thread(stranger.communicate, timeout=30)
    assert "User 10002 may not use this node's socket" in complaint
