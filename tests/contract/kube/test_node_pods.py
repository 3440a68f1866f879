"""What a pool's nodes need is made against a real API server: once, restricted, owned, and drained in order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from roadstead.adapters.kube.api import Api, connected
from roadstead.adapters.kube.cluster import KubernetesCluster
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.sources import Sources
from roadstead.adapters.kube.workload_writer import WorkloadStores, WorkloadWriter
from roadstead.adapters.pod_directory import PodDirectory
from roadstead.domain.model import ConditionStatus
from roadstead.domain.plan import ConditionReport, EngineReport, PoolReport
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import EngineBuild, Pool
from roadstead.domain.workload import PodRole
from roadstead.ports import DoorError
from tests.contract.kube.pool_objects import (
    IMAGE,
    NODE,
    WORKLOADS,
    a_claim,
    a_worker,
    an_agent,
    found,
    restricted,
    runs_on,
    worker_pool,
)
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract


@pytest.fixture
def pokes() -> list[str]:
    return []


@pytest.fixture
async def cluster(
    plane: RunningControlPlane, settings: KubeSettings, namespace: str, pokes: list[str]
) -> AsyncIterator[KubernetesCluster]:
    """It knows one WorkerPool, which has the name of the test's namespace."""
    restricted(plane, namespace)
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(worker_pool(namespace)))
    async with KubernetesCluster.connect(settings, poke=pokes.append, workloads=WORKLOADS) as known:
        await until(lambda: known.synced, "every list was read")
        yield known
    plane.kubectl("delete", "workerpool", namespace, "--ignore-not-found")


@pytest.fixture
def pool(cluster: KubernetesCluster, namespace: str) -> Pool:
    return the_pool(cluster, namespace)


def the_pool(cluster: KubernetesCluster, name: str) -> Pool:
    return next(pool for pool in cluster.pools() if pool.name == name)


def redelivered(plane: RunningControlPlane, cluster: KubernetesCluster, name: str) -> Pool:
    """As Kopf would."""
    cluster.deliver_pool("MODIFIED", json.loads(plane.kubectl("get", "workerpool", name, "-o", "json")))
    return the_pool(cluster, name)


async def everything_of_a_node(cluster: KubernetesCluster | WorkloadWriter, pool: Pool) -> None:
    await cluster.record_adoption(pool.name, pool.engines)
    await cluster.keep_claim(a_claim(pool))
    await cluster.run_pod(an_agent(pool))
    await cluster.run_pod(a_worker(pool))
    await cluster.protect_pod(an_agent(pool).name)
    await cluster.protect_pod(a_worker(pool).name)


def everything_seen(plane: RunningControlPlane, namespace: str) -> dict[str, str]:
    listed = json.loads(plane.kubectl("get", "pods,pvc,pdb,configmaps", "-n", namespace, "-o", "json"))["items"]
    return {f"{obj['kind']} {obj['metadata']['name']}": obj["metadata"]["resourceVersion"] for obj in listed}


async def test_what_a_node_needs_is_admitted_where_all_is_restricted_and_read_back(
    plane: RunningControlPlane, settings: KubeSettings, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    await everything_of_a_node(cluster, pool)

    agent, worker = an_agent(pool).name, a_worker(pool).name
    assert everything_seen(plane, namespace).keys() >= {
        f"Pod {agent}",
        f"Pod {worker}",
        f"PodDisruptionBudget {agent}",
        f"PodDisruptionBudget {worker}",
        f"PersistentVolumeClaim roadstead-weights-{NODE}",
        f"ConfigMap roadstead-pool-{pool.name}",
    }
    async with KubernetesCluster.connect(settings, poke=lambda _: None, workloads=WORKLOADS) as standby:
        await until(lambda: standby.synced, "every list was read")
        for each in (cluster, standby):
            assert [(pod.name, pod.role, pod.node, pod.pool, pod.image, pod.template) for pod in each.pods()] == [
                (agent, PodRole.AGENT, NODE, pool.name, WORKLOADS.image, "agent-template"),
                (worker, PodRole.WORKER, NODE, pool.name, IMAGE, "0123456789"),
            ]
            assert each.claims() == {f"roadstead-weights-{NODE}"}
            assert each.budgets() == {agent, worker}
            assert each.adoptions() == {pool.name: (EngineBuild(engine="LlamaCpp", image=IMAGE),)}


async def test_twice_is_once_whether_or_not_the_first_time_is_remembered(
    plane: RunningControlPlane, settings: KubeSettings, api: Api, cluster: KubernetesCluster, namespace: str
) -> None:
    pool = the_pool(cluster, namespace)
    await everything_of_a_node(cluster, pool)
    seen = everything_seen(plane, namespace)

    await everything_of_a_node(cluster, pool)
    assert everything_seen(plane, namespace) == seen

    known = Sources(api, settings, makes_pods=True, poke=lambda _: None)
    known.pools.put(json.loads(plane.kubectl("get", "workerpool", namespace, "-o", "json")))
    stores = WorkloadStores(
        pools=known.pools, pods=known.pods, claims=known.claims, budgets=known.budgets, adoptions=known.adoptions
    )
    await everything_of_a_node(WorkloadWriter(api, settings, workloads=WORKLOADS, stores=stores), pool)
    assert everything_seen(plane, namespace) == seen
    assert {pod.name for pod in known.pods.values()} == {pod.name for pod in cluster.pods()}


async def test_pods_are_held_to_their_node_and_owned_so_that_a_drain_takes_them(
    plane: RunningControlPlane, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    await everything_of_a_node(cluster, pool)

    for name in (an_agent(pool).name, a_worker(pool).name):
        pod = found(plane, namespace, "pod", name)
        (owner,) = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("WorkerPool", pool.uid, True)
        assert "blockOwnerDeletion" not in owner
        assert "nodeName" not in pod["spec"]
        terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert terms["nodeSelectorTerms"] == [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [NODE]}]}
        ]
        tolerated = {(each["key"], each.get("tolerationSeconds")) for each in pod["spec"]["tolerations"]}
        assert tolerated >= {
            ("node.kubernetes.io/unschedulable", None),
            ("node.kubernetes.io/not-ready", None),
            ("node.kubernetes.io/unreachable", None),
            ("gpu", None),
        }
    claim = found(plane, namespace, "pvc", f"roadstead-weights-{NODE}")
    assert "ownerReferences" not in claim["metadata"]
    assert claim["spec"]["storageClassName"] == "local"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["metadata"]["labels"]["team"] == "platform"


async def test_a_protected_pod_is_not_evicted_and_an_unprotected_one_is(
    plane: RunningControlPlane, api: Api, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    worker = a_worker(pool)
    await cluster.run_pod(worker)
    runs_on(plane, namespace, worker.name, node="nowhere", ip="10.1.0.7")
    await until(lambda: cluster.pods()[0].ready, "the Pod is ready")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": worker.name}}

    async def evict() -> None:
        await api.request("POST", f"/api/v1/namespaces/{namespace}/pods/{worker.name}/eviction", body=eviction)

    await cluster.protect_pod(worker.name)
    with pytest.raises(DoorError, match="disruption budget"):
        await evict()

    await cluster.unprotect_pod(worker.name)
    await cluster.unprotect_pod(worker.name)
    assert cluster.budgets() == frozenset()
    await evict()
    await until(lambda: cluster.pods()[0].deleting, "it drains")
    assert found(plane, namespace, "pod", worker.name)["metadata"]["deletionGracePeriodSeconds"] == 120
    await cluster.remove_pod(worker.name, uid=cluster.pods()[0].uid, grace_seconds=0)


async def test_kubectl_drain_takes_them_as_somebodys_that_come_back(
    plane: RunningControlPlane, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    node = f"node-of-{namespace}"
    plane.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    )
    await everything_of_a_node(cluster, pool)
    runs_on(plane, namespace, an_agent(pool).name, node=node, ip="10.1.0.6")
    runs_on(plane, namespace, a_worker(pool).name, node=node, ip="10.1.0.7")

    said = plane.kubectl("drain", node, "--delete-emptydir-data", "--dry-run=client")

    for pod in (an_agent(pool), a_worker(pool)):
        assert f"evicting pod {namespace}/{pod.name}" in said
    plane.kubectl("delete", "pods", "--all", "--force", "-n", namespace)
    plane.kubectl("delete", "node", node)


async def test_only_the_pod_that_was_meant_is_removed(
    plane: RunningControlPlane, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    await cluster.run_pod(an_agent(pool))
    (pod,) = cluster.pods()

    await cluster.remove_pod(pod.name, uid="11111111-2222-3333-4444-555555555555", grace_seconds=None)
    assert found(plane, namespace, "pod", pod.name)["metadata"]["uid"] == pod.uid
    assert cluster.pods() == (pod,)

    await cluster.remove_pod(pod.name, uid=pod.uid, grace_seconds=None)
    await cluster.remove_pod(pod.name, uid=pod.uid, grace_seconds=None)
    await until(lambda: cluster.pods() == (), "the Pod is gone")
    assert "NotFound" in plane.kubectl("get", "pod", pod.name, "-n", namespace, check=False)


async def test_a_pod_that_runs_ends_with_the_grace_it_is_given(
    plane: RunningControlPlane, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    await cluster.run_pod(a_worker(pool))
    runs_on(plane, namespace, a_worker(pool).name, node="nowhere", ip="10.1.0.7")
    await until(lambda: cluster.pods()[0].ready, "the Pod is ready")

    await cluster.remove_pod(a_worker(pool).name, uid=cluster.pods()[0].uid, grace_seconds=None)

    assert cluster.pods()[0].deleting
    assert found(plane, namespace, "pod", a_worker(pool).name)["metadata"]["deletionGracePeriodSeconds"] == 120
    await cluster.remove_pod(a_worker(pool).name, uid=cluster.pods()[0].uid, grace_seconds=0)
    await until(lambda: cluster.pods() == (), "the Pod is gone")


async def test_what_is_removed_by_hand_is_told(
    plane: RunningControlPlane, cluster: KubernetesCluster, pokes: list[str], pool: Pool, namespace: str
) -> None:
    await everything_of_a_node(cluster, pool)
    pokes.clear()

    plane.kubectl("delete", "pod,pdb", a_worker(pool).name, "-n", namespace)

    await until(lambda: len(cluster.pods()) == len(cluster.budgets()) == 1, "both are gone")
    assert set(pokes) >= {
        f"Pod {namespace}/{a_worker(pool).name} gone",
        f"PodDisruptionBudget {namespace}/{a_worker(pool).name} gone",
    }
    await everything_of_a_node(cluster, pool)
    assert len(cluster.pods()) == len(cluster.budgets()) == 2


async def test_all_but_the_weights_end_with_the_pool_and_a_later_pool_of_that_name_adopts_anew(
    plane: RunningControlPlane, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    await everything_of_a_node(cluster, pool)

    plane.kubectl("delete", "workerpool", namespace)
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(worker_pool(namespace)))
    later = redelivered(plane, cluster, namespace)

    assert later.uid != pool.uid
    assert cluster.adoptions() == {}
    await until(lambda: cluster.pods() == () and cluster.budgets() == frozenset(), "they were collected", seconds=60)
    assert cluster.claims() == {f"roadstead-weights-{NODE}"}


def somebody_elses_pod(namespace: str, name: str) -> dict[str, Any]:
    confined = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "serviceAccountName": "roadstead-worker",
            "containers": [{"name": "other", "image": "other", "securityContext": confined}],
        },
    }


async def test_what_cannot_be_made_says_why(
    plane: RunningControlPlane, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    worker = a_worker(pool)
    with pytest.raises(DoorError, match="WorkerPool none is gone"):
        await cluster.run_pod(replace(worker, pool="none"))
    with pytest.raises(DoorError, match=r"spec.workers.cell 'cell-9' is no cell of this release; there is cell-0"):
        await cluster.run_pod(replace(worker, worker=replace(worker.worker, cell="cell-9")))
    with pytest.raises(DoorError, match="there is nothing to protect"):
        await cluster.protect_pod("none")

    plane.kubectl("apply", "-f", "-", stdin=json.dumps(somebody_elses_pod(namespace, worker.name)))
    with pytest.raises(DoorError, match=f"Pod {namespace}/{worker.name} is not of WorkerPool {pool.name}"):
        await cluster.run_pod(worker)
    assert cluster.pods() == ()


async def test_doors_are_found_at_the_addresses_of_pods_and_follow_them(
    plane: RunningControlPlane, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    plane.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    )
    directory = PodDirectory(
        pods=cluster.doors,
        nodes=cluster.nodes,
        cells=WORKLOADS.cells.items(),
        clock=lambda: datetime.now(UTC),
    )
    agent = an_agent(pool)
    await cluster.run_pod(agent)
    assert directory.listing().agents == {}

    runs_on(plane, namespace, agent.name, node=NODE, ip="10.1.0.7", ready=False)
    await until(lambda: NODE in directory.listing().agents, "the agent's door is listed")
    assert directory.listing().agents[NODE].url == "http://10.1.0.7:7441"

    await cluster.remove_pod(agent.name, uid=cluster.pods()[0].uid, grace_seconds=0)
    await until(lambda: directory.listing().agents[NODE].url == "", "it has no address")
    await cluster.run_pod(agent)
    runs_on(plane, namespace, agent.name, node=NODE, ip="10.1.0.8")
    await until(lambda: directory.listing().agents[NODE].url == "http://10.1.0.8:7441", "it is found again")
    plane.kubectl("delete", "node", NODE)


def report_of(pool: Pool, *, ready: int, message: str = "one is not") -> PoolReport:
    return PoolReport(
        pool=pool,
        nodes=2,
        workers=2,
        ready=ready,
        engines=(EngineReport(engine="LlamaCpp", adopted="earlier", offered=IMAGE),),
        conditions=(
            ConditionReport(
                type="Ready",
                status=ConditionStatus.TRUE if ready == 2 else ConditionStatus.FALSE,
                reason=Reason.SERVING,
                message=message,
            ),
        ),
    )


async def test_kubectl_shows_a_pools_status_and_nothing_new_is_not_written(
    plane: RunningControlPlane, cluster: KubernetesCluster, pool: Pool, pokes: list[str], namespace: str
) -> None:
    pokes.clear()
    await cluster.publish_pool(report_of(pool, ready=1))
    assert not [poke for poke in pokes if poke.startswith("WorkerPool")]
    header, row = plane.kubectl("get", "wp", namespace).splitlines()
    assert header.split() == ["NAME", "NODES", "READY", "OFFERED", "AGE"]
    assert row.split()[:4] == [namespace, "2", "1/2", "1"]
    written = json.loads(plane.kubectl("get", "wp", namespace, "-o", "json"))

    await cluster.publish_pool(report_of(the_pool(cluster, namespace), ready=1))
    assert json.loads(plane.kubectl("get", "wp", namespace, "-o", "json")) == written

    await cluster.publish_pool(report_of(the_pool(cluster, namespace), ready=2))
    plane.kubectl("wait", "--for=condition=Ready", f"wp/{namespace}", "--timeout=5s")


async def test_the_status_of_a_pool_that_is_another_one_by_now_is_not_written(
    plane: RunningControlPlane, cluster: KubernetesCluster, pool: Pool, namespace: str
) -> None:
    plane.kubectl("delete", "workerpool", namespace)
    await cluster.publish_pool(report_of(pool, ready=1))
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(worker_pool(namespace)))
    with pytest.raises(DoorError, match="the object has been modified"):
        await cluster.publish_pool(report_of(pool, ready=1))

    assert "status" not in json.loads(plane.kubectl("get", "wp", namespace, "-o", "json"))


async def test_where_the_operator_may_not_write_a_pools_status_it_tries_once_and_goes_on(
    plane: RunningControlPlane, settings: KubeSettings, pool: Pool, namespace: str, tmp_path: Path
) -> None:
    """Namespaced mode: WorkerPools are read, and no more."""
    narrow = replace(settings, kubeconfig=a_reader_of_pools(plane, namespace, tmp_path))
    async with connected(narrow) as api:
        known = Sources(api, narrow, makes_pods=False, poke=lambda _: None)
        known.pools.put(json.loads(plane.kubectl("get", "wp", namespace, "-o", "json")))
        stores = WorkloadStores(
            pools=known.pools, pods=known.pods, claims=known.claims, budgets=known.budgets, adoptions=known.adoptions
        )
        writer = WorkloadWriter(api, narrow, workloads=WORKLOADS, stores=stores)

        for ready in (0, 1, 2):
            await writer.publish_pool(report_of(pool, ready=ready))

    assert "status" not in json.loads(plane.kubectl("get", "wp", namespace, "-o", "json"))
    audited = [json.loads(line) for line in plane.audit_log.read_text().splitlines()]
    tried = [
        line["responseStatus"]["code"] for line in audited if line["user"]["username"].endswith(f"{namespace}:narrow")
    ]
    assert tried == [403]


def a_reader_of_pools(plane: RunningControlPlane, namespace: str, folder: Path) -> Path:
    """A kubeconfig of an account that has no rights but that."""
    plane.kubectl("create", "serviceaccount", "narrow", "-n", namespace)
    name = f"reads-pools-{namespace}"
    plane.kubectl("create", "clusterrole", name, "--verb=get,list,watch", "--resource=workerpools.roadstead.dev")
    plane.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={namespace}:narrow")
    config = yaml.safe_load(plane.kubeconfig.read_text())
    token = plane.kubectl("create", "token", "narrow", "-n", namespace).strip()
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


async def test_an_operator_without_workloads_reads_nothing_of_them_and_makes_no_pods(
    settings: KubeSettings, cluster: KubernetesCluster, pool: Pool
) -> None:
    async with KubernetesCluster.connect(settings, poke=lambda _: None) as embedded:
        await until(lambda: embedded.synced, "every list was read")

        assert embedded.watch_ages().keys().isdisjoint({"persistentvolumeclaims", "poddisruptionbudgets", "configmaps"})
        assert cluster.watch_ages().keys() > embedded.watch_ages().keys()
        with pytest.raises(DoorError, match="ROADSTEAD_WORKLOADS_FILE is not set"):
            await embedded.run_pod(an_agent(pool))
