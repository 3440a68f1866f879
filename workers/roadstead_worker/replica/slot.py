"""The deployment class of every slot: from Ray's calls to one engine behind one door.

Ray 2.60 calls, in this order and on the replica's user event loop, whose thread lives as long as the process:
``__init__`` → ``__serve_build_asgi_app__`` → (the port opens) → ``reconfigure(user_config)`` → ``check_health`` … →
``__del__`` after its own drain. So the door is there before the engine and answers 503 until ``reconfigure`` has
returned; only then does Ray publish the replica's address.

``reconfigure`` also comes again: when ``user_config`` changes, after a controller restart, after a rolling update.
Whatever it says then, the engine keeps running.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import structlog

from roadstead_worker.contract import LeaseRequest, SlotArgs, SlotUserConfig
from roadstead_worker.engines.base import EngineSpec
from roadstead_worker.engines.catalogue import engine_named
from roadstead_worker.engines.loading import better_mapped
from roadstead_worker.lease_file import ClaimedLease
from roadstead_worker.replica.engine_keeper import EngineKeeper
from roadstead_worker.replica.engine_process import EngineProcess, EngineRun
from roadstead_worker.replica.lease_memory import LeaseMemoryTelling
from roadstead_worker.replica.measuring import Measured, warm_up
from roadstead_worker.replica.memory_claim import AgentSocket, GrantedGroup, granted_group
from roadstead_worker.replica.proxy import ReplicaProxy, ReplicaSecret, Upstream
from roadstead_worker.replica.settings import ReplicaSettings

DRAIN_SECONDS: Final = 30.0
"""What is left of requests after Ray's own drain gets this long before the engine is ended."""

log = structlog.get_logger(__name__)


class SlotReplica:
    """One replica. ``args`` is a ``SlotArgs`` as a plain dict, for Ray pickles what it is given."""

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = SlotArgs.model_validate(args)
        self._settings = ReplicaSettings.from_environment()
        self._engine = engine_named(self._args.engine)
        self._agent = AgentSocket(self._settings.store)
        self._measured = Measured(agent=self._agent, content=self._args.content, slot=self._args.slot)
        self._config: SlotUserConfig | None = None
        self._session: aiohttp.ClientSession | None = None
        self._proxy: ReplicaProxy | None = None
        self._keeper: EngineKeeper | None = None
        self._lease: ClaimedLease | None = None
        self._memory: LeaseMemoryTelling | None = None
        self._key = ""
        self._starting = asyncio.Lock()

    async def __serve_build_asgi_app__(self) -> ReplicaProxy:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0), auto_decompress=False, trust_env=False
        )
        self._proxy = ReplicaProxy(
            secret=ReplicaSecret(self._settings.secret),
            capabilities=self._engine.capabilities,
            upstream=self._upstream,
            session=self._session,
            on_answer=self._answered,
        )
        return self._proxy

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """The first call returns when the engine is healthy.

        Raises ``EngineStartFailed`` only when waiting would not help.
        """
        self._config = SlotUserConfig.model_validate(user_config)
        async with self._starting:
            if self._keeper is None:
                self._keeper = await self._first_engine()

    async def check_health(self) -> None:
        """Raises when Serve should replace this replica."""
        if self._keeper is not None:
            await self._keeper.check(self._client())

    async def __del__(self) -> None:
        if self._proxy is not None and not await self._proxy.drained(DRAIN_SECONDS):
            log.warning("ending the engine with requests in flight", slot=self._args.slot, left=self._proxy.in_flight)
        if self._keeper is not None:
            await self._keeper.stop()
        await self._measured.close()
        if self._lease is not None:
            await self._give_up(self._lease)
        if self._session is not None:
            await self._session.close()

    async def _first_engine(self) -> EngineKeeper:
        config = self._current_config()
        group = await granted_group(
            self._agent, self._settings.store, slot=self._args.slot, groups=self._groups, request=self._lease_request
        )
        lease = group.lease
        keeper: EngineKeeper | None = None
        try:
            self._memory = LeaseMemoryTelling(self._agent, lease)
            keeper = EngineKeeper(lambda: self._start(group), slot=self._args.slot)
            began = time.monotonic()
            await keeper.start()
            loaded = time.monotonic() - began
            if (process := keeper.engine) is not None:
                timings = await warm_up(self._engine, process, self._client(), key=self._key)
                self._measured.started(load_seconds=loaded, timings=timings)
                log.info(
                    "engine serves",
                    slot=self._args.slot,
                    pid=process.pid,
                    group=lease.index,
                    devices=group.devices,
                    release=config.release,
                )
        except BaseException:
            if keeper is not None:
                await keeper.stop()
            await self._give_up(lease)
            raise
        self._lease = lease
        return keeper

    async def _start(self, group: GrantedGroup) -> EngineProcess:
        key = secrets.token_hex(16)
        lease, model = group.lease, Path(group.grant.path)
        # What an accelerator holds is not rearranged in the host's memory: reading it would only cost some of that.
        mapped = bool(group.devices) or await asyncio.to_thread(better_mapped, model)
        run = EngineRun(
            engine=self._engine,
            spec=EngineSpec(
                model=model,
                served_name=self._args.served_name,
                context_tokens=self._args.context_tokens,
                concurrency=self._args.concurrency,
                threads=self._args.threads,
                devices=group.devices,
                mapped=mapped,
                extra_args=self._args.engine_args,
            ),
            key=key,
            log=self._settings.store / "logs" / f"{self._args.slot}.{lease.index}.log",
            scratch=self._scratch(lease),
            lease_descriptor=lease.fd,
            confined=self._settings.confined,
        )
        process = await EngineProcess.start(run, self._client())
        self._key = key
        return process

    def _groups(self) -> int:
        """How many device groups there are to claim. One whose accelerators are not told is none yet."""
        config = self._current_config()
        return min(config.groups, len(config.device_groups)) if self._args.devices else config.groups

    def _lease_request(self, index: int) -> LeaseRequest:
        config = self._current_config()
        return LeaseRequest(
            slot=self._args.slot,
            index=index,
            content=self._args.content,
            artifact=self._args.artifact,
            bytes=config.memory_bytes,
            devices=config.device_groups[index] if self._args.devices else (),
            device_bytes=config.device_bytes if self._args.devices else 0,
        )

    def _upstream(self) -> Upstream | None:
        process = self._keeper.engine if self._keeper is not None else None
        return None if process is None else Upstream(address=process.address, key=self._key)

    def _answered(self, end: bytes, in_flight: int) -> None:
        self._measured.answered(self._engine.timings_in(end), in_flight=in_flight)

    async def _give_up(self, lease: ClaimedLease) -> None:
        if self._memory is not None:
            await self._memory.close()
            self._memory = None
        shutil.rmtree(self._scratch(lease), ignore_errors=True)
        lease.release()

    def _scratch(self, lease: ClaimedLease) -> Path:
        return self._settings.store / "scratch" / f"{lease.slot}.{lease.index}"

    def _current_config(self) -> SlotUserConfig:
        if self._config is None:
            raise RuntimeError("reconfigure has not been called")
        return self._config

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("Ray builds the door before it configures the replica")
        return self._session
