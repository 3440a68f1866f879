"""What a WorkerPool's ``status`` says: its nodes and workers, which images serve, and what waits for a person."""

from __future__ import annotations

from roadstead.domain.model import ConditionStatus, ModelKey
from roadstead.domain.plan import ConditionReport, EngineReport, PoolReport
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import EngineBuild, FleetSnapshot, Pool, Raylet, image_identity, image_label
from roadstead.planner.adoption import Adoption, waiting
from roadstead.planner.agents import answers
from roadstead.planner.pods import PodPlan
from roadstead.planner.posts import Post
from roadstead.planner.workers import missing, raylets, unmoved

_NAMED = 3
"""Pods and slots that a message names; of more it says how many."""
_SHORT = 19
"""Characters of a digest that people compare: ``sha256:`` and twelve digits."""


def report_pools(
    snapshot: FleetSnapshot, *, adoption: Adoption, pods: PodPlan, held: tuple[ModelKey, ...]
) -> tuple[PoolReport, ...]:
    """A report of every pool whose workers are Pods; ``held`` are models that are kept without a LocalModel."""
    if snapshot.workloads is None:
        return ()
    adopted = {pool.name: pool.engines for pool in adoption.pools}
    return tuple(
        _report(pool, adopted=adopted[pool.name], snapshot=snapshot, pods=pods, held=held)
        for pool in sorted(snapshot.pools, key=lambda pool: pool.name)
        if pool.workers is not None
    )


def _report(
    pool: Pool,
    *,
    adopted: tuple[EngineBuild, ...],
    snapshot: FleetSnapshot,
    pods: PodPlan,
    held: tuple[ModelKey, ...],
) -> PoolReport:
    members = tuple(post for post in pods.posts if post.pool is not None and post.pool.name == pool.name)
    living = raylets(snapshot.cells)
    wanted = [(post, label) for post in members for label in post.workers if _expected(post, label, pods)]
    away = [(post, label) for post, label in wanted if not _lives(post, label, living)]
    silent = [post for post in members if post.usable and not answers(post, snapshot.agents)]
    offers = {build.engine: build.image for build in pool.engines}
    serving = {build.engine: build.image for build in adopted}
    return PoolReport(
        pool=pool,
        nodes=len(members),
        workers=len(wanted),
        ready=len(wanted) - len(away),
        engines=tuple(
            EngineReport(engine=engine, adopted=serving.get(engine, ""), offered=offers.get(engine, ""))
            for engine in sorted(offers.keys() | serving.keys())
        ),
        conditions=(
            _ready(members, wanted=len(wanted), away=away, silent=silent, pods=pods),
            _image_offered(pool, adopted),
            _orphans_held(held),
        ),
    )


def _expected(post: Post, label: str, pods: PodPlan) -> bool:
    """Whether a worker is, or is about to be, there: a cordoned node gets none."""
    there = any(image_label(pod.image) == label for pod in post.worker_pods)
    return post.usable or there or any(wish is post.workers[label] for wish in missing(post, pods.occupancy))


def _lives(post: Post, label: str, living: frozenset[Raylet]) -> bool:
    ready = any(pod.ready and not pod.deleting for pod in post.worker_pods if image_label(pod.image) == label)
    return ready and Raylet(post.node.name, label) in living


def _ready(
    members: tuple[Post, ...], *, wanted: int, away: list[tuple[Post, str]], silent: list[Post], pods: PodPlan
) -> ConditionReport:
    waits = unmoved(members, pods.occupancy)
    words = [f"{name} is to be replaced and waits for {_some(slots)} to move" for name, slots in sorted(waits.items())]
    count = f"{wanted - len(away)} of {wanted} workers live"
    if away:
        absent = _some([post.workers[label].name for post, label in away])
        return _condition("Ready", ConditionStatus.FALSE, Reason.STARTING, "; ".join((f"{count}: {absent}", *words)))
    if silent:
        names = _some([post.node.name for post in silent])
        return _condition("Ready", ConditionStatus.FALSE, Reason.AGENT_UNAVAILABLE, f"no agent answers on {names}")
    if words:
        return _condition("Ready", ConditionStatus.TRUE, Reason.ROLLOUT_STEP, "; ".join((count, *words)))
    return _condition("Ready", ConditionStatus.TRUE, Reason.SETTLED, count)


def _image_offered(pool: Pool, adopted: tuple[EngineBuild, ...]) -> ConditionReport:
    offers = waiting(pool.engines, adopted)
    serving = {build.engine: build.identity for build in adopted}
    if not offers:
        words = ", ".join(f"{build.engine} {build.identity}" for build in adopted) or "nothing is adopted yet"
        return _condition("ImageOffered", ConditionStatus.FALSE, Reason.IMAGE_ADOPTED, words)
    words = ". ".join(
        f"{offer.engine} {offer.image} is offered, {serving[offer.engine][:_SHORT]} serves. To adopt it: "
        f"kubectl annotate workerpool {pool.name} roadstead.dev/adopt={offer.identity} --overwrite"
        for offer in offers
    )
    known = {build.identity for build in (*pool.engines, *adopted)}
    if pool.adopt and image_identity(pool.adopt) not in known:
        words += f". The annotation names {pool.adopt}, which is not offered"
    return _condition("ImageOffered", ConditionStatus.TRUE, Reason.IMAGE_OFFERED, words)


def _orphans_held(held: tuple[ModelKey, ...]) -> ConditionReport:
    if not held:
        return _condition("OrphansHeld", ConditionStatus.FALSE, Reason.SETTLED, "all that serves has a LocalModel")
    words = (
        f"{len(held)} models serve and have no LocalModel: {_some([str(key) for key in held])}. So many do not "
        "vanish at once: was the API server restored from an older backup? They are kept. Apply their LocalModels "
        "again; to end one, delete it after that"
    )
    return _condition("OrphansHeld", ConditionStatus.TRUE, Reason.ORPHANED, words)


def _some(names: list[str] | tuple[str, ...]) -> str:
    told = ", ".join(names[:_NAMED])
    return told if len(names) <= _NAMED else f"{told} and {len(names) - _NAMED} more"


def _condition(kind: str, status: ConditionStatus, reason: Reason, message: str) -> ConditionReport:
    return ConditionReport(type=kind, status=status, reason=reason, message=message)
