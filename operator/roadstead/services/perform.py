"""What each action is at the ports."""

from __future__ import annotations

import structlog

from roadstead.domain.plan import (
    Action,
    ClearFinalizer,
    ConfigureCell,
    FetchWeights,
    ForgetRelease,
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
from roadstead.ports import Cluster
from roadstead.services.observe import Ports
from roadstead.services.resolutions import ResolutionBook

log = structlog.get_logger(__name__)


async def perform(action: Action, *, ports: Ports, resolutions: ResolutionBook) -> bool:
    """Do one thing; True if it brought an answer worth another turn."""
    match action:
        case Resolve(key=key):
            return resolutions.record(key, await ports.agents.resolve(key))
        case MakeRelease(model=model, contents=contents, above=above):
            number = await ports.ledger.number_release(model, contents, above=above)
            await ports.cluster.keep_release(model, Release(number=number, contents=contents))
            log.info("release.made", model=str(model.key), release=number, contents=len(contents))
            return True
        case ForgetRelease(model=model, number=number):
            log.info("release.forget", model=str(model.key), release=number)
            await ports.cluster.forget_release(model, number)
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


_TELLING = SetFinalizer | ForgetRelease | PublishRoute | WithdrawRoute | RecordAdoption | ProtectPod | UnprotectPod
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
