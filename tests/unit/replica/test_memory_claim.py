"""A device group with memory: waited for, and given up for another when the slot has lost it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from roadstead_worker.contract import LeaseGrant, LeaseRequest
from roadstead_worker.lease_file import claim, is_held, lease_path
from roadstead_worker.replica.memory_claim import AgentSocket, GrantedGroup, NotYet, granted_group
from tests.fixtures.patience import until

GROUPS = (("GPU-a", "GPU-b"), ("GPU-c", "GPU-d"))


class Agent(AgentSocket):
    """Grants what is asked for unless it is told not to."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.refuses = False
        self.asked: list[LeaseRequest] = []

    async def lease(self, request: LeaseRequest) -> LeaseGrant:
        self.asked.append(request)
        if self.refuses:
            raise NotYet("InsufficientVRAM: as the test says")
        return LeaseGrant(path="/model.gguf", threads=1)


class Slot:
    """A slot whose device groups change."""

    def __init__(self, store: Path, *groups: tuple[str, ...]) -> None:
        self.store = store
        self.agent = Agent()
        self.groups = groups

    def replica(self) -> asyncio.Task[GrantedGroup]:
        return asyncio.create_task(
            granted_group(self.agent, self.store, slot="s", groups=lambda: len(self.groups), request=self._request)
        )

    def _request(self, index: int) -> LeaseRequest:
        artifact = "sha256:" + "a" * 64
        return LeaseRequest(
            slot="s", index=index, content="c", artifact=artifact, bytes=1, devices=self.groups[index], device_bytes=2
        )


async def test_a_replica_gets_the_accelerators_of_the_group_that_it_claimed(tmp_path: Path) -> None:
    slot = Slot(tmp_path, *GROUPS)
    first, second = await slot.replica(), await slot.replica()
    assert [(each.lease.index, each.devices) for each in (first, second)] == [(0, GROUPS[0]), (1, GROUPS[1])]
    for each in (first, second):
        each.lease.release()


async def test_a_replica_without_a_group_waits_until_there_is_one(tmp_path: Path) -> None:
    slot = Slot(tmp_path)
    waiting = slot.replica()
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    assert slot.agent.asked == []
    slot.groups = GROUPS[:1]
    granted = await waiting
    assert granted.devices == GROUPS[0]
    granted.lease.release()


async def test_a_replica_that_waits_for_memory_asks_for_the_group_as_it_is_now(tmp_path: Path) -> None:
    slot = Slot(tmp_path, GROUPS[0])
    slot.agent.refuses = True
    waiting = slot.replica()
    await until(lambda: slot.agent.asked, "memory was asked for")
    slot.groups = (GROUPS[1],)
    slot.agent.refuses = False
    granted = await waiting
    assert granted.devices == GROUPS[1]
    granted.lease.release()


async def test_a_replica_whose_group_is_gone_takes_another_and_leaves_the_first_to_nobody(tmp_path: Path) -> None:
    slot = Slot(tmp_path, *GROUPS)
    earlier = claim(tmp_path, "s", 1)
    assert earlier is not None
    slot.agent.refuses = True
    waiting = slot.replica()
    await until(lambda: slot.agent.asked, "memory was asked for")
    assert slot.agent.asked[-1].index == 1
    slot.groups = GROUPS[:1]
    await until(lambda: not is_held(lease_path(tmp_path, "s", 1)), "the group that is gone was given up")
    earlier.release()
    slot.agent.refuses = False
    granted = await waiting
    assert (granted.lease.index, granted.devices) == (0, GROUPS[0])
    granted.lease.release()


async def test_a_replica_that_is_told_to_go_while_it_waits_gives_up_its_group(tmp_path: Path) -> None:
    slot = Slot(tmp_path, *GROUPS)
    slot.agent.refuses = True
    waiting = slot.replica()
    await until(lambda: slot.agent.asked, "memory was asked for")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not is_held(lease_path(tmp_path, "s", 0))
