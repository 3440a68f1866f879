"""Who leads, on a real Lease with short times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from roadstead.adapters.kube.api import Api
from roadstead.adapters.kube.lease import Leadership, LeaseLost, LeaseSettings
from roadstead.ports import DoorError
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract


class Doors:
    """What the doors tell as their highest epoch."""

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch

    async def __call__(self) -> int:
        return self.epoch


Candidate = Callable[..., Leadership]


@pytest.fixture
def losses() -> list[str]:
    return []


@pytest.fixture
def candidate(api: Api, namespace: str, losses: list[str]) -> Candidate:
    def made(identity: str, *, doors: Doors | None = None, through: Api | None = None) -> Leadership:
        settings = LeaseSettings(
            namespace=namespace, identity=identity, duration_seconds=2, renew_seconds=1.0, retry_seconds=0.1
        )
        return Leadership(through or api, settings, doors=doors or Doors(), lost=losses.append)

    return made


@asynccontextmanager
async def kept(leadership: Leadership) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(leadership.keep())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def lease(plane: RunningControlPlane, namespace: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        plane.kubectl("get", "lease", "roadstead-operator", "-n", namespace, "-o", "json")
    )
    return found


async def test_the_first_epoch_is_above_every_door(
    plane: RunningControlPlane, candidate: Candidate, namespace: str
) -> None:
    first = candidate("a", doors=Doors(41))

    assert await first.acquire() == 42
    assert lease(plane, namespace)["metadata"]["annotations"] == {"roadstead.dev/epoch": "42"}  # type: ignore[index]


async def test_one_of_two_leads_and_the_other_follows_when_it_goes_silent(candidate: Candidate) -> None:
    first, second = candidate("a"), candidate("b")
    epoch = await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    async with kept(first):
        await until(lambda: second._seen is not None, "the second has seen the Lease")
        await asyncio.wait([waiting], timeout=2.5)
        assert not waiting.done(), "a Lease that is renewed was taken"
    # From here on the first is silent, as a process that was killed.

    assert await asyncio.wait_for(waiting, timeout=10) == epoch + 1


async def test_who_followed_a_dead_leaders_lease_need_not_wait_again(candidate: Candidate) -> None:
    first, second = candidate("a"), candidate("b")
    epoch = await first.acquire()
    following = asyncio.create_task(second.follow())
    await asyncio.wait([following], timeout=2.5)
    assert not second.leading, "it is not ready"
    following.cancel()

    assert await asyncio.wait_for(second.acquire(), timeout=1.0) == epoch + 1


async def test_a_released_lease_is_taken_at_once(candidate: Candidate, losses: list[str]) -> None:
    first, second = candidate("a"), candidate("b")
    epoch = await first.acquire()
    async with kept(first) as keeping:
        await first.release()
        await asyncio.wait_for(keeping, timeout=5)

    assert await asyncio.wait_for(second.acquire(), timeout=1.5) == epoch + 1
    assert losses == []


async def test_a_leader_whose_lease_was_taken_says_so_once(
    plane: RunningControlPlane, candidate: Candidate, losses: list[str], namespace: str
) -> None:
    first = candidate("a")
    await first.acquire()
    async with kept(first) as keeping:
        theirs = '{"spec": {"holderIdentity": "b"}}'
        plane.kubectl("patch", "lease", "roadstead-operator", "-n", namespace, "--type=merge", f"-p={theirs}")
        await asyncio.wait_for(keeping, timeout=5)

    assert losses == ["the Lease is held by b"]
    assert not first.leading
    with pytest.raises(LeaseLost):
        await first.raise_epoch(7)


async def test_a_leader_that_cannot_renew_in_time_has_lost_whatever_the_reason(
    api: Api, candidate: Candidate, losses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = candidate("a")
    await first.acquire()

    async def broken(*_: object, **__: object) -> dict[str, object]:
        raise ValueError("a bug of ours")

    monkeypatch.setattr(api, "request", broken)
    async with kept(first) as keeping:
        await asyncio.wait_for(keeping, timeout=5)

    assert losses == ["no renewal for 1 s; last problem: a bug of ours"]


async def test_an_annotation_of_somebody_else_costs_the_leader_nothing(
    plane: RunningControlPlane, candidate: Candidate, losses: list[str], namespace: str
) -> None:
    first = candidate("a")
    epoch = await first.acquire()
    plane.kubectl("annotate", "lease", "roadstead-operator", "-n", namespace, "note=seen")

    assert await first.raise_epoch(epoch + 5) == epoch + 6

    annotations = lease(plane, namespace)["metadata"]["annotations"]  # type: ignore[index]
    assert annotations == {"note": "seen", "roadstead.dev/epoch": str(epoch + 6)}


async def test_doors_that_do_not_answer_are_left_out(candidate: Candidate) -> None:
    class Shut(Doors):
        async def __call__(self) -> int:
            raise DoorError("AgentUnavailable", "nobody is at home")

    assert await candidate("a", doors=Shut()).acquire() == 1


async def test_times_are_utc_with_microseconds_and_transitions_are_counted(
    plane: RunningControlPlane, candidate: Candidate, namespace: str
) -> None:
    first = candidate("a")
    await first.acquire()
    await first.release()
    await candidate("b").acquire()

    spec = lease(plane, namespace)["spec"]
    assert spec["leaseTransitions"] == 1  # type: ignore[index]
    assert spec["renewTime"].endswith("Z")  # type: ignore[index]
    assert len(spec["renewTime"].partition(".")[2]) == len("123456Z")  # type: ignore[index]
