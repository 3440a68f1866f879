"""Everything that is planned about Pods in one turn, in the two parts between which models are planned.

What a worker's going closes has to be known before replicas are dealt; what is to be protected, only after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from roadstead.domain.plan import Action, KeepClaim, RunPod
from roadstead.domain.slot import Slot
from roadstead.domain.snapshot import FleetSnapshot
from roadstead.planner.agents import AgentPlan, plan_agents
from roadstead.planner.occupancy import Occupancy
from roadstead.planner.posts import Post, posts
from roadstead.planner.protection import Protection, plan_protection
from roadstead.planner.workers import WorkerPlan, plan_workers


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """What is done about Pods; nothing where there are none."""

    snapshot: FleetSnapshot
    occupancy: Occupancy
    posts: tuple[Post, ...] = ()
    workers: WorkerPlan = field(default_factory=WorkerPlan)
    agents: AgentPlan = field(default_factory=AgentPlan)

    @property
    def closed(self) -> Mapping[str, Mapping[str, str]]:
        """By node and label of an image: why nothing starts there."""
        return self.workers.closed

    def additions(self) -> list[Action]:
        """Claims and Pods."""
        claims = [post.claim for post in self.posts if post.claim is not None]
        return [
            *(KeepClaim(claim=claim) for claim in claims if claim.name not in self.snapshot.claims),
            *(RunPod(pod=pod) for pod in (*self.agents.run, *self.workers.run)),
        ]

    def removals(self) -> list[Action]:
        """Pods that nothing needs any more."""
        return [*self.workers.remove, *self.agents.remove]

    def protection(self, put: list[Slot]) -> Protection:
        """Budgets to make before ``put`` is put, and budgets to take away when all is done."""
        if self.snapshot.workloads is None:
            return Protection()
        return plan_protection(
            self.posts,
            budgets=self.snapshot.budgets,
            pods={pod.name for pod in self.snapshot.pods},
            occupancy=self.occupancy,
            put=put,
        )


def plan_pods(snapshot: FleetSnapshot) -> PodPlan:
    """Steps about Pods; the pools of the snapshot have the engines that were adopted."""
    occupancy = Occupancy(snapshot)
    if snapshot.workloads is None:
        return PodPlan(snapshot=snapshot, occupancy=occupancy)
    places = posts(snapshot, snapshot.workloads)
    workers = plan_workers(places, cells=snapshot.cells, occupancy=occupancy)
    return PodPlan(
        snapshot=snapshot,
        occupancy=occupancy,
        posts=places,
        workers=workers,
        agents=plan_agents(places, agents=snapshot.agents, occupancy=occupancy, ending=workers.removed_on),
    )
