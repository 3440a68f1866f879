"""Carries a plan out. It decides nothing: an action that fails is logged and left to the next turn, which sees why.

Actions of one kind that follow each other run side by side, because they touch different things; kinds keep their
order. Each has a timeout, so that one door that hangs costs this turn a few seconds and nobody else anything.
Of a kind with more actions than it has time for, the others are left to the next turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import structlog

from roadstead.domain.plan import (
    Action,
    ClearFinalizer,
    ConfigureCell,
    FetchWeights,
    ForgetWeights,
    KeepClaim,
    MakeRelease,
    ProtectPod,
    PublishRoute,
    RecordAdoption,
    RemovePod,
    Resolve,
    RunPod,
    SetFinalizer,
    UnprotectPod,
    WithdrawRoute,
)
from roadstead.domain.release import Release
from roadstead.ports import Cluster, DoorError, FencedError
from roadstead.services.observe import Ports
from roadstead.services.resolutions import ResolutionBook
from roadstead.services.side_by_side import side_by_side

_TIMEOUT_SECONDS: Final = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a plan's actions went."""

    done: int
    failed: int
    news: bool
    """Whether an answer came in that the next turn should look at."""
    left: int = 0
    """Actions that were not begun, for want of time."""
    fenced_by: int | None = None
    """The higher epoch a door has seen."""


@dataclass(slots=True)
class _Tally:
    done: int = 0
    failed: int = 0
    news: bool = False
    left: int = 0
    fenced_by: int | None = None


async def carry_out(
    actions: tuple[Action, ...],
    *,
    ports: Ports,
    resolutions: ResolutionBook,
    count: Callable[[str, str], None] = lambda _action, _result: None,
) -> Outcome:
    """Carry out actions in order; ``count(action, result)`` is told of each for the metrics."""
    tally = _Tally()

    async def one(action: Action) -> None:
        count(type(action).__name__, await _attempt(action, ports=ports, resolutions=resolutions, tally=tally))

    for _, group in groupby(actions, key=type):
        tally.left += await side_by_side(tuple(group), one)
    return Outcome(done=tally.done, failed=tally.failed, news=tally.news, left=tally.left, fenced_by=tally.fenced_by)


async def _attempt(action: Action, *, ports: Ports, resolutions: ResolutionBook, tally: _Tally) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            tally.news |= await _perform(action, ports=ports, resolutions=resolutions)
    except FencedError as error:
        tally.failed += 1
        tally.fenced_by = max(error.epoch, tally.fenced_by or 0)
        log.warning("action.fenced", action=type(action).__name__, epoch=error.epoch)
        return "fenced"
    except DoorError as error:
        tally.failed += 1
        log.warning("action.failed", action=type(action).__name__, code=error.code, message=error.message)
        return "failed"
    except TimeoutError:
        tally.failed += 1
        log.warning("action.timeout", action=type(action).__name__, seconds=_TIMEOUT_SECONDS)
        return "timeout"
    tally.done += 1
    return "done"


async def _perform(action: Action, *, ports: Ports, resolutions: ResolutionBook) -> bool:
    """Do one thing; True if it brought an answer worth another turn."""
    match action:
        case Resolve(key=key):
            return resolutions.record(key, await ports.agents.resolve(key))
        case MakeRelease(model=model, contents=contents, above=above):
            number = await ports.ledger.number_release(model, contents, above=above)
            await ports.cluster.keep_release(model, Release(number=number, contents=contents))
            log.info("release.made", model=str(model.key), release=number, contents=len(contents))
            return True
        case SetFinalizer() | ClearFinalizer() | PublishRoute() | WithdrawRoute():
            await _about_models(action, ports.cluster)
        case FetchWeights(node=node, artifact=artifact, source=source):
            await ports.agents.fetch(node, artifact=artifact, source=source)
        case ForgetWeights(node=node, digest=digest):
            await ports.agents.forget(node, digest=digest)
        case ConfigureCell(cell=cell, base=base, put=put, remove=remove):
            log.info("cell.configure", cell=cell, put=[slot.name for slot in put], remove=list(remove))
            await ports.cells.configure(cell, base=base, put=put, remove=remove)
        case RecordAdoption() | KeepClaim() | RunPod() | RemovePod() | ProtectPod() | UnprotectPod():
            await _about_pods(action, ports.cluster)
    return isinstance(action, _TELLING)


_TELLING = SetFinalizer | PublishRoute | WithdrawRoute | RecordAdoption | ProtectPod | UnprotectPod
"""What is known at once when it is done, and lets the next step follow: no watch will tell of it again."""


async def _about_models(action: SetFinalizer | ClearFinalizer | PublishRoute | WithdrawRoute, cluster: Cluster) -> None:
    match action:
        case SetFinalizer(model=model):
            await cluster.set_finalizer(model)
        case ClearFinalizer(model=model):
            await cluster.clear_finalizer(model)
        case PublishRoute(route=route):
            await cluster.publish_route(route)
        case WithdrawRoute(route=route):
            await cluster.withdraw_route(route)


async def _about_pods(
    action: RecordAdoption | KeepClaim | RunPod | RemovePod | ProtectPod | UnprotectPod, cluster: Cluster
) -> None:
    match action:
        case RecordAdoption(pool=pool, engines=engines):
            log.info("image.adopted", pool=pool, images=[build.image for build in engines])
            await cluster.record_adoption(pool, engines)
        case KeepClaim(claim=claim):
            log.info("claim.keep", claim=claim.name, node=claim.node)
            await cluster.keep_claim(claim)
        case RunPod(pod=wish):
            log.info("pod.run", pod=wish.name, node=wish.node, image=wish.image)
            await cluster.run_pod(wish)
        case RemovePod(name=name, uid=uid, grace_seconds=grace_seconds):
            log.info("pod.remove", pod=name)
            await cluster.remove_pod(name, uid=uid, grace_seconds=grace_seconds)
        case ProtectPod(name=name):
            await cluster.protect_pod(name)
        case UnprotectPod(name=name):
            await cluster.unprotect_pod(name)
