"""PodDisruptionBudgets: an eviction waits for exactly the Pods that slots depend on.

A node's worker is protected while slots of its image are on the node, its agent while any are, from before the first
slot is put. ``kubectl drain`` therefore goes on asking until the slots have moved, and then passes: first the workers,
the agent last, because it keeps the memory of the node until nobody holds any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from roadstead.domain.plan import ProtectPod, UnprotectPod
from roadstead.domain.slot import Slot
from roadstead.domain.snapshot import image_label
from roadstead.planner.occupancy import Occupancy
from roadstead.planner.posts import Post


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """This turn's steps."""

    protect: tuple[ProtectPod, ...] = ()
    unprotect: tuple[UnprotectPod, ...] = ()


def plan_protection(
    posts: tuple[Post, ...],
    *,
    budgets: AbstractSet[str],
    pods: AbstractSet[str],
    occupancy: Occupancy,
    put: Iterable[Slot],
) -> Protection:
    """What to protect before ``put`` is put, and what needs it no longer; ``pods`` are the names of all Pods."""
    starting = {(slot.node, image_label(slot.content.engine_image)) for slot in put}
    needed: set[str] = set()
    free: set[str] = set()
    for post in posts:
        workers = _workers(post)
        for name, label in workers.items():
            if (post.node.name, label) in starting or occupancy.holders(post.node.name, label):
                needed.add(name)
            elif occupancy.vacant(post.node.name, label):
                free.add(name)
        agents = {pod.name for pod in post.agent_pods} | ({post.agent.name} if post.agent is not None else set())
        if any(node == post.node.name for node, _ in starting) or occupancy.holders(post.node.name):
            needed |= agents
        elif occupancy.deserted(post.node.name) and not budgets & workers.keys():
            free |= agents
    wished = {name for post in posts for name in (*_workers(post), *((post.agent.name,) if post.agent else ()))}
    forgotten = {name for name in budgets if name not in pods and name not in wished}
    ending = {pod.name for post in posts for pod in (*post.worker_pods, *post.agent_pods) if pod.deleting}
    return Protection(
        protect=tuple(ProtectPod(name=name) for name in sorted(needed - budgets - ending)),
        unprotect=tuple(UnprotectPod(name=name) for name in sorted((budgets & free) | forgotten)),
    )


def _workers(post: Post) -> Mapping[str, str]:
    """Label of the image of every worker that is here, and of those that are not but should be, by name."""
    there = {pod.name: image_label(pod.image) for pod in post.worker_pods}
    return there | {wish.name: label for label, wish in post.workers.items() if label not in there.values()}
