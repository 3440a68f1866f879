"""Agent Pods: one on each node of a pool, made anew when the chart asks for another, one node of a pool at a time.

No engine depends on an agent, so it waits for no slot; but while it is away nothing starts on its node and nothing is
learned of it. So the next one is replaced only when every other answers again. One that does not answer and is not as
it should be goes first: there is nothing to lose with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from roadstead.domain.plan import RemovePod
from roadstead.domain.snapshot import AgentFacts, Known, Part
from roadstead.domain.workload import NodePod, PodWish
from roadstead.planner.occupancy import Occupancy
from roadstead.planner.posts import Post

_GRACE_SECONDS = 5
"""An agent waits in its preStop for the engines of its node, which a drain wants and a replacement does not."""


@dataclass(slots=True)
class AgentPlan:
    """This turn's steps."""

    run: list[PodWish] = field(default_factory=list)
    remove: list[RemovePod] = field(default_factory=list)


def plan_agents(
    posts: tuple[Post, ...],
    *,
    agents: Mapping[str, Part[AgentFacts]],
    occupancy: Occupancy,
    ending: set[str],
) -> AgentPlan:
    """Steps of every node; ``ending`` are nodes that lose a worker now, whose agents stay for that."""
    plan = AgentPlan()
    pools: defaultdict[str, list[Post]] = defaultdict(list)
    for post in posts:
        plan.remove += [
            RemovePod(name=pod.name, uid=pod.uid) for pod in post.agent_pods if pod.finished and not pod.deleting
        ]
        if post.pool is None:
            if not post.worker_pods and occupancy.deserted(post.node.name):
                plan.remove += [RemovePod(name=pod.name, uid=pod.uid) for pod in _staying(post)]
            continue
        pools[post.pool.name].append(post)
        if post.agent is not None and not post.agent_pods and _wanted(post, occupancy):
            plan.run.append(post.agent)
    for _, members in sorted(pools.items()):
        plan.remove += _replaced(members, agents=agents, occupancy=occupancy, ending=ending)
    return plan


def answers(post: Post, agents: Mapping[str, Part[AgentFacts]]) -> bool:
    """Whether the node's agent is there, Ready, and has told something lately."""
    return any(pod.ready for pod in _staying(post)) and isinstance(agents.get(post.node.name), Known)


def _wanted(post: Post, occupancy: Occupancy) -> bool:
    return not post.node.unschedulable or bool(occupancy.holders(post.node.name))


def _staying(post: Post) -> list[NodePod]:
    return [pod for pod in post.agent_pods if not pod.deleting and not pod.finished]


def _replaced(
    members: list[Post],
    *,
    agents: Mapping[str, Part[AgentFacts]],
    occupancy: Occupancy,
    ending: set[str],
) -> list[RemovePod]:
    silent = [post for post in members if post.usable and not answers(post, agents)]
    for post in sorted(members, key=lambda post: (answers(post, agents), post.node.name)):
        losing = post.node.name in ending or any(pod.deleting for pod in post.worker_pods)
        outdated = [pod for pod in _staying(post) if not post.fits(pod)]
        if not outdated or losing or not post.node.ready or not _wanted(post, occupancy):
            continue
        if silent and answers(post, agents):
            return []
        return [RemovePod(name=pod.name, uid=pod.uid, grace_seconds=_GRACE_SECONDS) for pod in outdated]
    return []
