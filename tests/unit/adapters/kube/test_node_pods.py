"""What the Pods of a node are told of its accelerators."""

from __future__ import annotations

import pytest

from roadstead.adapters.kube import pods, pools
from roadstead.domain.workload import PodWish
from tests.contract.kube.pool_objects import WORKLOADS, a_worker, an_agent, worker_pool

OBJECT = worker_pool("gpus")
POOL = pools.pool({**OBJECT, "metadata": {**OBJECT["metadata"], "uid": "u"}}).pool


@pytest.mark.parametrize(
    ("wish", "capabilities"),
    [(an_agent(POOL), "utility"), (a_worker(POOL), "compute,utility")],
    ids=["agent", "worker"],
)
def test_all_cards_of_nvidias_are_brought_in_and_none_is_taken_from_the_scheduler(
    wish: PodWish, capabilities: str
) -> None:
    """An agent that requested cards to read them would leave none for anybody; engines are told theirs by the plan."""
    made = pods.pod(wish, WORKLOADS, namespace="roadstead", pool_uid="u", head="head:6379")
    (container,) = made["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert told["NVIDIA_DRIVER_CAPABILITIES"] == capabilities
    amounts = {name for kind in container["resources"].values() for name in kind}
    assert amounts == {"cpu", "memory"}
