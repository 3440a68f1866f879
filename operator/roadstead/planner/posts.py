"""Posts: each node with the Pods that should be on it and the Pods that are.

What should be there follows from the node's pool alone: a claim, an agent, one worker for each adopted image (engines
that share an image share its worker). Whether a missing Pod is made now, and when one that should not be there may go,
is decided in ``workers`` and ``agents``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from roadstead.domain.snapshot import FleetSnapshot, Node, Pool, image_label
from roadstead.domain.workload import (
    ClaimWish,
    NodePod,
    PodRole,
    PodWish,
    WorkerTemplate,
    Workloads,
    agent_pod_name,
    agent_template,
    claim_name,
    worker_pod_name,
    worker_template,
)
from roadstead.planner.nodes import pool_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One node, as far as Pods are concerned."""

    node: Node
    pool: Pool | None
    """None also if the pool's workers are not Pods: then no Pod should be here."""
    claim: ClaimWish | None = None
    agent: PodWish | None = None
    workers: Mapping[str, PodWish]
    """Workers that should be here, by label of their image."""
    agent_pods: tuple[NodePod, ...] = ()
    worker_pods: tuple[NodePod, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a Pod that is made here now can be expected to run."""
        return self.node.ready and not self.node.unschedulable

    def fits(self, pod: NodePod) -> bool:
        """Whether a Pod is one that should be here, made as it would be made now."""
        wish = self.agent if pod.role is PodRole.AGENT else self.workers.get(image_label(pod.image))
        return wish is not None and (pod.template, pod.pool) == (wish.template, wish.pool)


def posts(snapshot: FleetSnapshot, workloads: Workloads) -> tuple[Post, ...]:
    """Every node that should have Pods or has some, by name. Pods of nodes that are gone are Kubernetes' to remove."""
    by_node: defaultdict[str, list[NodePod]] = defaultdict(list)
    for pod in sorted(snapshot.pods, key=lambda pod: pod.name):
        by_node[pod.node].append(pod)
    found: list[Post] = []
    for name, node in sorted(snapshot.nodes.items()):
        pool = pool_of(node, snapshot.pools)
        agents = tuple(pod for pod in by_node[name] if pod.role is PodRole.AGENT)
        workers = tuple(pod for pod in by_node[name] if pod.role is PodRole.WORKER)
        if pool is not None and pool.workers is not None:
            found.append(
                Post(
                    node=node,
                    pool=pool,
                    claim=_claim(name, pool, pool.workers),
                    agent=_agent(name, pool, pool.workers, workloads),
                    workers=_workers(name, pool, pool.workers, workloads),
                    agent_pods=agents,
                    worker_pods=workers,
                )
            )
        elif agents or workers:
            found.append(Post(node=node, pool=None, workers={}, agent_pods=agents, worker_pods=workers))
    return tuple(found)


def _claim(node: str, pool: Pool, worker: WorkerTemplate) -> ClaimWish:
    return ClaimWish(
        name=claim_name(node),
        node=node,
        pool=pool.name,
        storage_class=worker.storage_class,
        bytes=worker.store_bytes,
    )


def _agent(node: str, pool: Pool, worker: WorkerTemplate, workloads: Workloads) -> PodWish:
    return PodWish(
        name=agent_pod_name(workloads.release, node),
        role=PodRole.AGENT,
        node=node,
        pool=pool.name,
        image=workloads.agent_image,
        template=agent_template(workloads, worker),
        worker=worker,
    )


def _workers(node: str, pool: Pool, worker: WorkerTemplate, workloads: Workloads) -> Mapping[str, PodWish]:
    wishes: dict[str, PodWish] = {}
    for build in pool.engines:
        template = worker_template(workloads, worker, build.identity)
        wishes[image_label(build.image)] = PodWish(
            name=worker_pod_name(workloads.release, node, template),
            role=PodRole.WORKER,
            node=node,
            pool=pool.name,
            image=build.image,
            template=template,
            worker=worker,
        )
    return wishes
