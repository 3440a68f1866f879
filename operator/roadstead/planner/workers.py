"""Worker Pods: which are made, which may go, and where nothing new may start because one is about to go.

A worker is never taken from under a slot. One of another image than the adopted goes when it is vacant. Where devices
are shared its successor stands beside it from the start, and slots move by themselves; where they are exclusive there
is room for one only, so a pool's nodes turn over one at a time: the node closes, its slots move, the old worker goes,
the new one comes, and the next node follows only when its raylet lives. A worker made from an older template keeps
serving; it is replaced in its turn once it is vacant, because two of one image on one node would carry the same labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from roadstead.domain.plan import RemovePod
from roadstead.domain.snapshot import Cell, Known, Raylet, image_label
from roadstead.domain.workload import Devices, NodePod, PodWish
from roadstead.planner.occupancy import Occupancy
from roadstead.planner.posts import Post

_DELETED = "its worker is being deleted"
_REPLACED = "its worker is being replaced"


@dataclass(slots=True)
class WorkerPlan:
    """This turn's steps."""

    run: list[PodWish] = field(default_factory=list)
    remove: list[RemovePod] = field(default_factory=list)
    removed_on: set[str] = field(default_factory=set)
    """Nodes on which a worker is removed now."""
    closed: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """By node and label of an image: why nothing starts there and slots move away."""

    def take(self, post: Post, pod: NodePod) -> None:
        """Remove a worker that is vacant."""
        self.remove.append(RemovePod(name=pod.name, uid=pod.uid))
        self.removed_on.add(post.node.name)


def plan_workers(posts: tuple[Post, ...], *, cells: tuple[Cell, ...], occupancy: Occupancy) -> WorkerPlan:
    """Steps of every node; in each pool at most one node is closed for its turn."""
    plan = WorkerPlan()
    pools: defaultdict[str, list[Post]] = defaultdict(list)
    for post in posts:
        for pod in post.worker_pods:
            if pod.deleting:
                plan.closed[post.node.name][image_label(pod.image)] = _DELETED
            elif pod.finished:
                plan.take(post, pod)  # its processes have ended: it only keeps its name from its successor
        if post.pool is None:
            _clear(plan, post, occupancy)
        else:
            pools[post.pool.name].append(post)
            plan.run += missing(post, occupancy)
    living = raylets(cells)
    for _, members in sorted(pools.items()):
        _dismiss(plan, members, occupancy)
        _turn_over(plan, members, living=living, occupancy=occupancy)
    return plan


def raylets(cells: tuple[Cell, ...]) -> frozenset[Raylet]:
    """Living raylets of the cells that are Known."""
    return frozenset(raylet for cell in cells if isinstance(cell.facts, Known) for raylet in cell.facts.value.raylets)


def missing(post: Post, occupancy: Occupancy) -> list[PodWish]:
    """Workers to make now. What is gone from a cordoned node comes back only for slots that are still there."""
    there = {image_label(pod.image) for pod in post.worker_pods if not pod.finished}
    names = {pod.name for pod in post.worker_pods}
    if is_exclusive(post) and there - post.workers.keys():
        return []
    return [
        wish
        for label, wish in sorted(post.workers.items())
        if label not in there
        and wish.name not in names
        and (not post.node.unschedulable or occupancy.holders(post.node.name, label))
    ]


def is_exclusive(post: Post) -> bool:
    """Whether only one worker at a time can use the node's devices."""
    return post.pool is not None and post.pool.workers is not None and post.pool.workers.devices is Devices.EXCLUSIVE


def _staying(post: Post) -> list[NodePod]:
    return [pod for pod in post.worker_pods if not pod.deleting and not pod.finished]


def _old(post: Post) -> list[NodePod]:
    """Workers of images that are not adopted."""
    return [pod for pod in _staying(post) if image_label(pod.image) not in post.workers]


def _outdated(post: Post) -> list[NodePod]:
    """Workers of an adopted image that would be made otherwise now."""
    return [pod for pod in _staying(post) if image_label(pod.image) in post.workers and not post.fits(pod)]


def _clear(plan: WorkerPlan, post: Post, occupancy: Occupancy) -> None:
    """A node of no pool: every worker goes when it is vacant."""
    for pod in _staying(post):
        if occupancy.vacant(post.node.name, image_label(pod.image)):
            plan.take(post, pod)


def _dismiss(plan: WorkerPlan, members: list[Post], occupancy: Occupancy) -> None:
    """Vacant workers of earlier images whose going makes no room that something waits for."""
    for post in members:
        if is_exclusive(post) and post.usable:
            continue
        for pod in _old(post):
            label = image_label(pod.image)
            if occupancy.vacant(post.node.name, label):
                plan.take(post, pod)
                plan.closed[post.node.name][label] = _REPLACED


def _turn_over(plan: WorkerPlan, members: list[Post], *, living: frozenset[Raylet], occupancy: Occupancy) -> None:
    """The one node of a pool whose worker gives way to another in the same place."""
    if any(post.usable and _between(post, living) for post in members):
        return
    turns = [(post, due) for post in members if post.usable and (due := _due(post, occupancy))]
    if not turns:
        return
    post, due = min(turns, key=lambda turn: (not _all_vacant(*turn, occupancy=occupancy), turn[0].node.name))
    for pod in due:
        label = image_label(pod.image)
        plan.closed[post.node.name][label] = _REPLACED
        if occupancy.vacant(post.node.name, label):
            plan.take(post, pod)


def _between(post: Post, living: frozenset[Raylet]) -> bool:
    """Whether the node has given up its worker and its successor's raylet does not live yet."""
    if _old(post) or _outdated(post):
        return False
    serving = {image_label(pod.image) for pod in _staying(post) if pod.ready}
    return any(label not in serving or Raylet(post.node.name, label) not in living for label in post.workers)


def _due(post: Post, occupancy: Occupancy) -> list[NodePod]:
    """Workers that have to go before their successors can come."""
    due = [pod for pod in _outdated(post) if occupancy.vacant(post.node.name, image_label(pod.image))]
    return [*_old(post), *due] if is_exclusive(post) else due


def _all_vacant(post: Post, due: list[NodePod], *, occupancy: Occupancy) -> bool:
    return all(occupancy.vacant(post.node.name, image_label(pod.image)) for pod in due)


def unmoved(posts: tuple[Post, ...], occupancy: Occupancy) -> Mapping[str, tuple[str, ...]]:
    """By name of a worker Pod that is to go: the slots that it still waits for."""
    return {
        pod.name: holders
        for post in posts
        for pod in _staying(post)
        if not post.fits(pod) and (holders := occupancy.holders(post.node.name, image_label(pod.image)))
    }
