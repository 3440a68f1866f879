"""Engines as children, with a scripted one: what is told when they do not start, and what ends with them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from roadstead_worker.engines.base import Capabilities, EngineCommand, EngineSpec, Timings
from roadstead_worker.engines.llama_cpp import LlamaCpp
from roadstead_worker.replica import engine_launcher
from roadstead_worker.replica.engine_keeper import EngineAway, EngineKeeper, backoff_seconds
from roadstead_worker.replica.engine_log import EngineLog
from roadstead_worker.replica.engine_process import EngineProcess, EngineRun, EngineStartFailed
from tests.fixtures.patience import wait_until

SCRIPT = Path(__file__).with_name("scripted_engine.py")


@dataclass(frozen=True)
class ScriptedEngine:
    """llama.cpp in all but the command."""

    mode: str
    state: Path
    capabilities: Capabilities = LlamaCpp().capabilities
    health_path: str = "/health"

    def command(self, spec: EngineSpec) -> EngineCommand:
        argv = (sys.executable, str(SCRIPT), self.mode, str(self.state))
        return EngineCommand(argv=argv, environment={"OMP_NUM_THREADS": str(spec.threads)})

    def address_in(self, line: str) -> str | None:
        return LlamaCpp().address_in(line)

    def complaint_in(self, line: str) -> str | None:
        return LlamaCpp().complaint_in(line)

    def warm_up_request(self, *, generated_tokens: int) -> tuple[str, dict[str, object]]:
        return LlamaCpp().warm_up_request(generated_tokens=generated_tokens)

    def timings_in(self, answer: bytes) -> Timings | None:
        return LlamaCpp().timings_in(answer)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def run(tmp_path: Path) -> EngineRun:
    model = tmp_path / "model.gguf"
    model.touch()
    lease = os.open(tmp_path / "lease.json", os.O_RDWR | os.O_CREAT)
    return EngineRun(
        engine=ScriptedEngine("serve", tmp_path / "state"),
        spec=EngineSpec(model=model, served_name="m", context_tokens=512, concurrency=1, threads=1),
        key="secret",
        log=tmp_path / "logs" / "slot.0.log",
        scratch=tmp_path / "scratch",
        lease_descriptor=lease,
        start_seconds=10,
        confined=False,
    )


def scripted(run: EngineRun, mode: str) -> EngineRun:
    assert isinstance(run.engine, ScriptedEngine)
    return replace(run, engine=replace(run.engine, mode=mode))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_started_engine_is_healthy_and_ends_when_it_is_stopped(
    run: EngineRun, session: aiohttp.ClientSession
) -> None:
    engine = await EngineProcess.start(scripted(run, "slow"), session)
    assert await engine.answers(session)
    await engine.stop()
    assert gone(engine.pid)
    assert engine.exited.result() == -signal.SIGTERM
    assert "listening on" in run.log.read_text()


async def test_an_engine_sees_the_allow_list_its_key_and_nothing_else(
    run: EngineRun, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "unscoped")
    monkeypatch.setenv("ROADSTEAD_REPLICA_TOKEN_FILE", "/somewhere")
    engine = await EngineProcess.start(run, session)
    names = {entry.partition("=")[0] for entry in Path(f"/proc/{engine.pid}/environ").read_text().split("\0") if entry}
    assert "LLAMA_API_KEY" in names
    assert not {name for name in names if name.startswith(("RAY", "ROADSTEAD"))}
    await engine.stop()


async def test_an_engine_holds_the_lease_file_and_can_gain_no_privileges(
    run: EngineRun, session: aiohttp.ClientSession
) -> None:
    engine = await EngineProcess.start(run, session)
    assert Path(f"/proc/{engine.pid}/fd/{run.lease_descriptor}").readlink().name == "lease.json"
    assert "NoNewPrivs:\t1" in Path(f"/proc/{engine.pid}/status").read_text()
    assert os.getpgid(engine.pid) == engine.pid
    await engine.stop()


async def test_an_engine_that_refuses_is_told_with_its_complaint_and_last_lines(
    run: EngineRun, session: aiohttp.ClientSession
) -> None:
    with pytest.raises(EngineStartFailed) as failure:
        await EngineProcess.start(scripted(run, "refuse"), session)
    first, *rest = str(failure.value).splitlines()
    assert first == (
        "The engine ended with return code 1 before it was healthy: data is not within the file bounds. Its last lines:"
    )
    assert rest == ["loading", "error: data is not within the file bounds"]
    assert not failure.value.killed


async def test_an_engine_that_hangs_is_ended_at_its_deadline(run: EngineRun, session: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineStartFailed, match=r"was not healthy after 1 s") as failure:
        await EngineProcess.start(replace(scripted(run, "hang"), start_seconds=1), session)
    assert "loading" in str(failure.value)


def test_an_engine_dies_with_the_process_that_started_it(run: EngineRun, tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import asyncio, os, sys
        from pathlib import Path
        sys.path.insert(0, {str(SCRIPT.parents[3])!r})
        import aiohttp
        from roadstead_worker.engines.base import EngineSpec
        from roadstead_worker.replica.engine_process import EngineProcess, EngineRun
        from tests.unit.replica.test_engine_process import ScriptedEngine

        async def main():
            folder = Path({str(tmp_path)!r})
            spec = EngineSpec(model=folder / "model.gguf", served_name="m", context_tokens=1, concurrency=1, threads=1)
            run = EngineRun(engine=ScriptedEngine("serve", folder / "state"), spec=spec, key="", log=folder / "l",
                            scratch=folder / "s", lease_descriptor=os.open("/dev/null", os.O_RDONLY), confined=False)
            async with aiohttp.ClientSession() as session:
                engine = await EngineProcess.start(run, session)
                print(engine.pid, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: gone(pid), "the engine is gone", seconds=5)


async def test_a_killed_engine_comes_back_at_once(run: EngineRun, session: aiohttp.ClientSession) -> None:
    keeper = EngineKeeper(lambda: EngineProcess.start(run, session), slot="s")
    await keeper.start()
    first = keeper.engine
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while keeper.engine is None or keeper.engine is first:  # noqa: ASYNC110 - the keeper has no event to wait for
            await asyncio.sleep(0.01)
    assert await keeper.engine.answers(session)
    await keeper.check(session)
    second = keeper.engine.pid
    await keeper.stop()
    assert gone(second)


async def test_an_engine_that_does_not_come_back_is_told_to_serve_in_the_end(
    run: EngineRun, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadstead_worker.replica.engine_keeper.PATIENCE_SECONDS", 0.3)
    keeper = EngineKeeper(lambda: EngineProcess.start(scripted(run, "once"), session), slot="s")
    await keeper.start()
    first = keeper.engine
    assert first is not None
    await first.kill()
    await keeper.check(session)  # not yet

    reason = ""
    async with asyncio.timeout(10):
        while "data is not within the file bounds" not in reason:  # until then it may have had its first words only
            try:
                await keeper.check(session)
            except EngineAway as error:
                reason = str(error)
            await asyncio.sleep(0.02)
    await keeper.stop()


async def test_a_new_replica_whose_engine_is_killed_by_a_signal_is_tried_again_and_then_fails(
    run: EngineRun, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadstead_worker.replica.engine_keeper.backoff_seconds", lambda _failures: 0.0)
    starts = []

    async def start() -> EngineProcess:
        starts.append(1)
        return await EngineProcess.start(scripted(run, "kill"), session)

    with pytest.raises(EngineStartFailed, match="was ended by SIGKILL"):
        await EngineKeeper(start, slot="s").start()
    assert len(starts) == 3


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0), (2, 0.5), (3, 1), (4, 2), (8, 30), (500, 30)])
def test_the_first_restart_is_at_once_and_later_ones_wait_longer(failures: int, seconds: float) -> None:
    assert backoff_seconds(failures) == seconds


async def test_a_log_keeps_the_last_lines_and_never_grows_beyond_twice_its_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadstead_worker.replica.engine_log.LOG_BYTES", 1000)
    path = tmp_path / "slot.0.log"
    lines: list[str] = []
    log = EngineLog(path, lines.append)
    for number in range(500):
        log.data_received(f"line {number}\nhalf ".encode())
    assert log.last_lines.splitlines()[-1] == "half line 499"
    assert len(lines) == 500
    assert path.stat().st_size + path.with_name("slot.0.log.1").stat().st_size <= 2000


@pytest.mark.parametrize(("name", "code"), [("own", 0), ("others", 1)])
def test_a_confined_engine_reads_its_own_files_and_no_others(tmp_path: Path, name: str, code: int) -> None:
    for folder in ("own", "others"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.gguf").write_text("weights")
    launcher = [sys.executable, "-I", "-S", engine_launcher.__file__, "--parent", str(os.getpid()), "--confine"]
    own = ["--readable", str(tmp_path / "own"), "--writable", str(tmp_path / "scratch")]
    probe = subprocess.run(
        [*launcher, *own, "--", "/bin/cat", str(tmp_path / name / "model.gguf")], capture_output=True, check=False
    )
    if b"not in this kernel" in probe.stderr:
        pytest.skip("this kernel has no Landlock")
    assert probe.returncode == code, probe.stderr
