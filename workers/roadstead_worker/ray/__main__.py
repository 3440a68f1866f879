"""``python -m roadstead_worker.ray head|node``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

import structlog

from roadstead_worker.agent.logs import configure_logs
from roadstead_worker.ray.command import start_head, start_worker
from roadstead_worker.ray.keeping import RayKeeper
from roadstead_worker.ray.settings import RayHead, RayWorker, SettingInvalid
from roadstead_worker.ray.waiting import head_answers

log = structlog.get_logger(__name__)


def main() -> int:
    """Run until SIGTERM (0) or until Ray ends (1); 2 means that the environment or the volume will not do."""
    role = sys.argv[1:]
    if role not in (["head"], ["node"]):
        sys.stderr.write("usage: python -m roadstead_worker.ray head|node\n")
        return 2
    configure_logs(role=f"ray-{role[0]}")
    try:
        return asyncio.run(_head(os.environ) if role == ["head"] else _worker(os.environ))
    except SettingInvalid as error:
        sys.stderr.write(f"{error}\n")
        return 2


async def _head(environment: Mapping[str, str]) -> int:
    head = RayHead.from_environment(environment)
    try:
        head.store.mkdir(parents=True, exist_ok=True)
        # `ray start --head` refuses to start if this names a cluster while any raylet runs on the machine.
        (head.node.folder / "ray_current_cluster").unlink(missing_ok=True)
    except OSError as error:
        raise SettingInvalid(f"{error.filename} cannot be used: {error.strerror}") from error
    keeper = RayKeeper()
    keeper.watch_signals()
    log.info("ray head starts", address=head.node.address, store=str(head.store))
    return await keeper.run(start_head(head))


async def _worker(environment: Mapping[str, str]) -> int:
    worker = RayWorker.from_environment(environment)
    keeper = RayKeeper()
    keeper.watch_signals()
    if not await head_answers(worker.head, stopping=keeper.stopping):
        return 0
    log.info("ray node starts", address=worker.node.address, head=worker.head, labels=dict(worker.labels))
    return await keeper.run(start_worker(worker))


if __name__ == "__main__":
    sys.exit(main())
