"""The life of a release on a real cluster, told once from install to uninstall, under a client that never stops asking.

The tests build on one another and run in this order; ``make test-cluster`` ends at the first that fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import openai
import pytest

from tests.cluster.images import Images
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.home import NODES
from tests.cluster.permissions import Permission, granted, ungranted, unused, used, wildcards
from tests.cluster.product import MODEL, NAMESPACE, POOL, RELEASE, TEAM, Product, is_ready
from tests.cluster.stranger import doors_of, opened_by_a_stranger
from tests.cluster.waiting import until
from tests.fixtures.steady_client import SteadyClient, steady_client

pytestmark = pytest.mark.cluster

_GOES: Final = (
    "deployments", "statefulsets", "pods", "services", "configmaps", "secrets", "poddisruptionbudgets",
    "networkpolicies", "roles", "rolebindings", "serviceaccounts", "jobs", "modelroutes.roadstead.dev",
)  # fmt: skip

_TAKEN: Final = "looked at only when a create is answered with AlreadyExists"
_RARELY: Final = {
    ("pods", "get"): _TAKEN,
    ("persistentvolumeclaims", "get"): _TAKEN,
    ("poddisruptionbudgets", "get"): _TAKEN,
    ("controllerrevisions", "get"): _TAKEN,
    ("controllerrevisions", "delete"): "a model that has had more releases than it keeps",
    ("configmaps", "create"): "an apply that makes the object needs it, and is logged as a patch",
    ("leases", "create"): "uninstalling where no operator ever led",
    ("localmodels", "get"): "uninstalling while somebody else writes",
}
"""What a life without these accidents does not need, and why it is granted all the same."""


@dataclass(slots=True)
class Life:
    """What one test leaves to the next."""

    product: Product
    audited: int
    """Lines of the audit log before it began: others may have had a release of the same name."""
    asking: SteadyClient | None = None
    grants: frozenset[Permission] = frozenset()

    @property
    def client(self) -> SteadyClient:
        assert self.asking is not None, "the client starts with the first answer"
        return self.asking


@pytest.fixture(scope="module")
def life(cluster: Cluster, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Life:
    product = Product.of(cluster, images, folder=tmp_path_factory.mktemp("life"))
    product.serve_model_files()
    return Life(product, audited=len(cluster.audit_log.read_text().splitlines()))


@pytest.fixture(scope="module")
def client(life: Life) -> Iterator[SteadyClient]:
    """Asks from the first test that wants it until uninstall, and has to be answered all that time."""
    log = life.product.folder / "asked.jsonl"
    with life.product.gateway() as url:
        key = life.product.client_key()
        until(lambda: _answers(url, key), "a first answer", seconds=120)
        with steady_client(url, key=key, model=MODEL, log=log) as asking:
            life.asking = asking
            yield asking


@pytest.fixture(autouse=True)
def _every_request_is_answered(request: pytest.FixtureRequest, life: Life) -> Iterator[None]:
    """After each test: what the client saw meanwhile."""
    began = time.time()
    yield
    if life.asking is not None:
        asked = life.client.asked(since=began)
        slowest = max((one.seconds for one in asked), default=0.0)
        retried = len([one for one in asked if one.retries])
        print(f"\n{request.node.name}: {len(asked)} asked, {retried} tried again, slowest {slowest:.1f} s")  # noqa: T201
        assert life.client.failures(since=began) == []


def test_the_chart_installs_and_a_model_answers_through_the_gateway(life: Life) -> None:
    product = life.product
    product.install()
    product.apply_model()
    product.until_ready()
    product.until_served(*NODES)
    assert {pod["spec"]["containers"][0]["image"] for pod in product.pods("worker").values()} == {product.images.worker}
    assert product.names("pdb", "-l", "app.kubernetes.io/component=worker") == set(product.pods("worker"))
    assert len(product.engines()) == 2


def test_helm_test_chats(life: Life, client: SteadyClient) -> None:
    said = life.product.cluster.helm("test", RELEASE, "--namespace", NAMESPACE, "--logs")
    assert MODEL in said


def test_the_command_line_shows_what_engines_say_on_every_node(life: Life, client: SteadyClient) -> None:
    said = _cli(life.product, "logs", f"{TEAM}/{MODEL}", "--lines", "9000")
    assert {line.split()[0] for line in said.splitlines() if line} >= set(NODES)
    assert "listening on http" in said


def test_changed_operator_defaults_restart_no_engine(life: Life, client: SteadyClient) -> None:
    product = life.product
    engines, operators = product.engines(), set(product.pods("operator"))
    product.upgrade(operator={"resources": {"limits": {"memory": "1200Mi"}}})
    until(lambda: not operators & set(product.pods("operator")), "every operator is a new one", seconds=60)
    product.until_served()
    assert product.engines() == engines


def test_a_pod_of_another_namespace_opens_no_door_but_the_gateways(life: Life, client: SteadyClient) -> None:
    doors = doors_of(life.product)
    assert opened_by_a_stranger(life.product, doors) == {"gateway"}


def test_another_worker_image_is_only_offered(life: Life, client: SteadyClient) -> None:
    product = life.product
    engines = product.engines()
    product.upgrade(image=product.images.values(worker=product.images.other_worker_digest))
    until(lambda: _offered(product) == product.images.other_worker_digest, "the offer is told", seconds=60)
    product.until_served()
    assert product.engines() == engines
    assert product.workers_run(product.images.worker_digest, *NODES)


def test_an_adopted_image_moves_every_slot_and_then_the_old_workers_go(life: Life, client: SteadyClient) -> None:
    product = life.product
    engines = product.engines()
    other = product.images.other_worker_digest
    product.cluster.kubectl("annotate", "workerpool", POOL, f"roadstead.dev/adopt={other}", "--overwrite")
    until(
        lambda: product.workers_run(other, *NODES),
        "only workers of the adopted image are left",
        seconds=420,
        tell=lambda: {name: is_ready(pod) for name, pod in product.pods("worker").items()},
    )
    product.until_served()
    assert not set(product.engines()) & set(engines)
    assert product.model()["status"]["release"]["number"] == 2


def test_a_chart_that_is_rolled_back_offers_the_earlier_image_and_restarts_nothing(
    life: Life, client: SteadyClient
) -> None:
    product = life.product
    engines = product.engines()
    product.cluster.helm("rollback", RELEASE, "--namespace", NAMESPACE, "--wait")
    until(lambda: _offered(product) == product.images.worker_digest, "the earlier image is offered", seconds=60)
    product.until_served()
    assert product.engines() == engines


def test_a_standby_acts_within_twenty_seconds_of_the_leaders_death(life: Life, client: SteadyClient) -> None:
    product = life.product
    engines, leader = product.engines(), _leader(product)
    _kill_container(product, leader)
    killed = time.monotonic()
    product.cluster.kubectl(
        *("-n", TEAM, "patch", "localmodel", MODEL, "--type=merge", "--patch", '{"spec": {"aliases": ["small"]}}')
    )
    until(lambda: _observed(product), "another operator has acted", seconds=30)
    assert time.monotonic() - killed <= 20
    assert product.engines() == engines


def test_a_killed_gateway_costs_no_answer(life: Life, client: SteadyClient) -> None:
    product = life.product
    gone = min(product.pods("gateway"))
    product.cluster.kubectl("-n", NAMESPACE, "delete", "pod", gone, "--timeout=120s")
    until(lambda: len(_ready(product, "gateway")) == 2, "two gateways are Ready", seconds=120)


def test_a_deleted_head_is_back_in_control_and_serving_went_on(life: Life, client: SteadyClient) -> None:
    product = life.product
    engines, (head,) = product.engines(), product.pods("head")
    product.cluster.kubectl("-n", NAMESPACE, "delete", "pod", head, "--timeout=180s", timeout_seconds=200)
    until(lambda: head in _ready(product, "head"), "the head is Ready again", seconds=240)
    product.cluster.kubectl("-n", TEAM, "scale", "localmodel", MODEL, "--replicas=3")
    until(lambda: len(product.engines()) == 3, "a third engine", seconds=240, tell=product.slots)
    assert set(engines) <= set(product.engines())
    product.cluster.kubectl("-n", TEAM, "scale", "localmodel", MODEL, "--replicas=2")
    until(lambda: len(product.engines()) == 2, "two engines again", seconds=60, tell=product.engines)
    product.until_served()


def test_a_deleted_model_leaves_no_engine_and_no_route(life: Life, client: SteadyClient) -> None:
    product = life.product
    engines, routes = product.engines(), product.names("modelroutes")
    product.apply_model("passing", replicas=1)
    until(lambda: len(product.engines()) > len(engines), "another model's engine", seconds=120, tell=product.engines)
    until(lambda: len(product.names("modelroutes")) > len(routes), "its route", seconds=120, tell=product.engines)
    product.cluster.kubectl("-n", TEAM, "delete", "localmodel", "passing", "--timeout=90s")
    until(lambda: product.engines() == engines, "only the engines from before", seconds=30, tell=product.engines)
    assert product.names("modelroutes") == routes


def test_a_worker_that_is_deleted_by_hand_comes_back(life: Life, client: SteadyClient) -> None:
    product = life.product
    (worker,) = (name for name, pod in product.pods("worker").items() if pod["spec"]["nodeName"] == NODES[1])
    uid = product.pods("worker")[worker]["metadata"]["uid"]
    product.cluster.kubectl("-n", NAMESPACE, "delete", "pod", worker, "--timeout=300s", timeout_seconds=320)
    until(
        lambda: any(
            pod["spec"].get("nodeName") == NODES[1] and pod["metadata"]["uid"] != uid and is_ready(pod)
            for pod in product.pods("worker").values()
        ),
        "a worker is back on the node",
        seconds=240,
    )
    product.until_ready()


def test_a_node_is_drained_after_its_slots_have_moved(life: Life, client: SteadyClient) -> None:
    product = life.product
    product.cluster.kubectl(
        *("drain", NODES[1], "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s"), timeout_seconds=320
    )
    product.until_served(NODES[0])
    own = [*product.pods("worker").values(), *product.pods("agent").values()]
    assert {pod["spec"]["nodeName"] for pod in own} == {NODES[0]}
    product.cluster.kubectl("uncordon", NODES[1])
    until(lambda: len(_ready(product, "worker")) == 2, "the node has a worker again", seconds=240)
    product.until_ready()


def test_uninstall_leaves_models_weights_and_the_ledger_and_nothing_else(life: Life, client: SteadyClient) -> None:
    product = life.product
    life.grants = _grants(product)
    life.client.end()
    life.asking = None
    product.cluster.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "10m")
    until(lambda: not product.engines(), "no engine runs", seconds=60)
    assert not product.model()["metadata"].get("finalizers")
    until(lambda: not _left(product), "nothing that should go is left", seconds=120, tell=lambda: _left(product))
    claims = product.names("pvc")
    assert {name for name in claims if name.startswith("roadstead-weights-")} == {
        f"roadstead-weights-{n}" for n in NODES
    }
    assert {name.partition("-")[0] for name in claims} == {"roadstead", "state", "data"}


def test_roles_allow_what_was_done_and_nothing_more(life: Life) -> None:
    lines = life.product.cluster.audit_log.read_text().splitlines()[life.audited :]
    done, refused = used(lines, accounts={grant.account for grant in life.grants})
    assert refused == ()
    assert wildcards(life.grants) == ()
    assert [str(act) for act in ungranted(life.grants, done)] == []
    needless = [grant for grant in unused(life.grants, done) if (grant.resource, grant.verb) not in _RARELY]
    assert [str(grant) for grant in needless] == []


def test_the_namespaces_can_be_deleted(life: Life) -> None:
    life.product.cluster.kubectl("delete", "namespace", TEAM, NAMESPACE, "--timeout=120s", timeout_seconds=150)


def _answers(url: str, key: str) -> bool:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60) as asking:
        try:
            answer = asking.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=4
            )
        except openai.OpenAIError:
            return False
    return bool(answer.choices[0].message.content)


def _cli(product: Product, *arguments: str) -> str:
    program = Path(sys.executable).with_name("roadstead")
    answer = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False, env=product.cli()
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _offered(product: Product) -> str:
    engines = product.cluster.get("workerpool", POOL).get("status", {}).get("engines") or [{}]
    return str(engines[0].get("offered") or "").rpartition("@")[2]


def _leader(product: Product) -> str:
    lease = product.cluster.get("-n", NAMESPACE, "lease", f"{RELEASE}-operator")
    holder = str(lease["spec"]["holderIdentity"])
    (leader,) = (name for name in product.pods("operator") if name in holder)
    return leader


def _kill_container(product: Product, pod: str) -> None:
    """SIGKILL for the first process of a Pod's container, from the host: nobody is asked, nothing is drained."""
    uid = product.pods("operator")[pod]["metadata"]["uid"].replace("-", "")
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                group = (process / "cgroup").read_text().replace("-", "").replace("_", "")
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if uid in group and b"roadstead.runtime" in words:
                os.kill(int(process.name), signal.SIGKILL)
                return
    raise AssertionError(f"{pod} has no process")


def _observed(product: Product) -> bool:
    model = product.model()
    return bool(model["status"]["observedGeneration"] == model["metadata"]["generation"])


def _ready(product: Product, component: str) -> set[str]:
    return {name for name, pod in product.pods(component).items() if is_ready(pod)}


def _left(product: Product) -> set[str]:
    """What uninstalling should have taken; a Pod may take its grace period."""
    labelled = product.names(",".join(_GOES), "-l", "app.kubernetes.io/part-of=roadstead")
    return labelled | product.names("leases.coordination.k8s.io")


def _grants(product: Product) -> frozenset[Permission]:
    """What the roles of the release allow its service accounts."""
    objects = product.cluster.get(
        "roles,rolebindings,clusterroles,clusterrolebindings,serviceaccounts",
        *("--all-namespaces", "-l", f"app.kubernetes.io/instance={RELEASE}"),
    )["items"]
    return granted(
        [one for one in objects if one["kind"].endswith("Role")],
        [one for one in objects if one["kind"].endswith("RoleBinding")],
        accounts=[
            f"{one['metadata']['namespace']}:{one['metadata']['name']}"
            for one in objects
            if one["kind"] == "ServiceAccount"
        ],
    )
