"""The how-to pages about installing, upgrading and uninstalling, typed from top to bottom on a real cluster.

The tests build on one another and run in this order. A snippet that a page gains fails the first one until it has its
place here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml

from roadstead.embedded.example_model import example_weights
from tests.cluster.images import Images
from tests.cluster.machine.certificates import Authority
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.home import CHECKOUT, NODES
from tests.cluster.pages import PAGE_FOLDER, Change, Reader, Snippet, snippets
from tests.cluster.product import MODEL_HOST, Product
from tests.cluster.waiting import until
from tests.fixtures.free_ports import free_port

pytestmark = pytest.mark.cluster

PAGES: Final = {
    "install": (
        "REGISTRY=",
        "helm install roadstead charts/roadstead --namespace roadstead",
        "kubectl apply --namespace default",
        "kubectl wait --namespace default",
        "KEY=",
        "kubectl port-forward",
        "kubectl create namespace fleet",
        "helm install roadstead charts/roadstead --namespace fleet",
    ),
    "upgrade": (
        "helm upgrade",
        "helm upgrade",
        "kubectl annotate workerpool cpu",
        "helm history",
        "kubectl delete secret roadstead-tokens",
    ),
    "uninstall": (
        "helm uninstall roadstead --namespace roadstead --wait",
        "kubectl logs --namespace roadstead job/roadstead-uninstall",
        "kubectl scale deployment roadstead-operator",
    ),
}
"""How each snippet begins, in the order of the pages."""

LEFT_OUT: Final[dict[Snippet, str]] = {}
"""Snippets that are not typed, and why."""

CHANGES: Final = (
    Change("registry.lan", "docker.io", "images are imported, and containerd knows them by this name"),
    Change(f"sha256:{'0123456789abcdef' * 4}", "$BUILT_WORKER_DIGEST", "the page's is of nothing"),
    Change(
        "helm install roadstead charts/roadstead",
        "helm install roadstead charts/roadstead --values $OF_THIS_CLUSTER",
        "name servers listen on another port here, and weights come by plain http",
    ),
    Change("docs/examples/smollm2-in-a-cluster.yaml", "$EXAMPLE", "its source is in the internet, which is not here"),
    Change("8080", "$FREE_PORT", "something else may listen there"),
    Change("cpu --watch", "cpu --watch & sleep 2; kill $!", "a reader ends it when the image is adopted"),
)

_INSTALLER: Final = "ida"


@dataclass(frozen=True, slots=True)
class Desk:
    """Who types, and what they look at meanwhile."""

    cluster: Cluster
    images: Images
    owner: Reader
    """Of the cluster."""
    installer: Reader
    """Of a fleet for some namespaces, with that user's own rights."""

    def until_adopted(self, digest: str) -> None:
        """What a reader who watches the pool waits for."""

        def settled() -> bool:
            status = self.cluster.get("workerpool", "cpu")["status"]
            workers = self.cluster.get("--namespace", "roadstead", "pods", "-l", "app.kubernetes.io/component=worker")
            images = [pod["metadata"]["annotations"]["roadstead.dev/image"] for pod in workers["items"]]
            return status["engines"][0]["adopted"].endswith(digest) and all(image.endswith(digest) for image in images)

        until(settled, f"only workers of {digest} are left", seconds=180)


@pytest.fixture(scope="module")
def desk(cluster: Cluster, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("pages")
    Product.of(cluster, images, folder=folder).serve_model_files()
    has = {
        "BUILT_WORKER_DIGEST": images.worker_digest,
        "NEW_WORKER_DIGEST": images.other_worker_digest,
        "OF_THIS_CLUSTER": str(_values_of_this_cluster(folder)),
        "EXAMPLE": str(_example(folder)),
        "FREE_PORT": str(free_port()),
        "INSTALLER": _INSTALLER,
    }
    own = _kubeconfig_of_the_installer(cluster, folder)
    return Desk(
        cluster=cluster,
        images=images,
        owner=Reader.of(cluster, folder=folder / "owner", changes=CHANGES, has=has),
        installer=Reader.of(cluster, folder=folder / "installer", changes=CHANGES, has=has, kubeconfig=own),
    )


def the(page: str, number: int) -> Snippet:
    """The snippet of this number, from 1, as ``PAGES`` counts."""
    return snippets(page)[number - 1]


# ── The pages and this file ──────────────────────────────────────────────────────────────────────────────────────────


def test_every_snippet_of_the_pages_has_its_place_here() -> None:
    for page, beginnings in PAGES.items():
        shown = [snippet.text for snippet in snippets(page)]
        assert len(shown) == len(beginnings), shown
        for text, begins in zip(shown, beginnings, strict=True):
            assert text.startswith(begins)


def test_every_change_is_needed() -> None:
    printed = [snippet.text for page in PAGES for snippet in snippets(page)]
    assert [change.shown for change in CHANGES if not any(change.shown in text for text in printed)] == []


# ── One fleet for the whole cluster ──────────────────────────────────────────────────────────────────────────────────


def test_a_fleet_is_installed_and_its_model_answers_a_chat(desk: Desk) -> None:
    desk.owner.types(the("install", 1), seconds=10)
    desk.owner.types(the("install", 2), seconds=300)
    desk.owner.types(the("install", 3), seconds=30)
    assert "smollm2 answers:" in desk.owner.types(the("install", 4), seconds=300)


def test_a_client_on_ones_own_machine_is_answered(desk: Desk) -> None:
    desk.owner.types(the("install", 5), seconds=30)
    said = desk.owner.types(the("install", 6), seconds=120)
    answer = next(line for line in said.splitlines() if line.startswith("{"))
    assert json.loads(answer)["choices"][0]["message"]["content"]


def test_an_upgrade_adopts_another_worker_image_when_it_is_told_to(desk: Desk) -> None:
    desk.owner.types(the("upgrade", 1), seconds=300)
    said = desk.owner.types(the("upgrade", 2), seconds=300)
    command = f"kubectl annotate workerpool cpu roadstead.dev/adopt={desk.images.other_worker_digest} --overwrite"
    assert said.endswith(f"To adopt it: {command}")
    desk.owner.types(the("upgrade", 3), seconds=30)
    desk.until_adopted(desk.images.other_worker_digest)


def test_a_rollback_and_other_tokens_leave_a_fleet_that_answers(desk: Desk) -> None:
    desk.owner.types(the("upgrade", 4), seconds=300)
    old = _tokens(desk.cluster)
    desk.owner.types(the("upgrade", 5), seconds=300)
    assert not set(old.values()) & set(_tokens(desk.cluster).values())
    assert "smollm2 answers:" in desk.owner.runs(the("install", 4).text, seconds=300)


def test_uninstalling_that_was_cut_short_is_run_again(desk: Desk) -> None:
    code, said = desk.owner.tries("helm uninstall roadstead --namespace roadstead --wait --timeout 5s", seconds=60)
    assert code != 0, said
    desk.owner.types(the("uninstall", 2), seconds=30)
    desk.owner.types(the("uninstall", 1), seconds=300)
    assert _finalizers(desk.cluster) == []
    assert _claims(desk.cluster) == ["data", "roadstead", "roadstead", "state"]


def test_a_fleet_that_was_uninstalled_without_its_job_leaves_a_model_that_is_freed_by_hand(desk: Desk) -> None:
    desk.owner.types(the("install", 2), seconds=300)
    until(lambda: _finalizers(desk.cluster) != [], "the operator holds the model", seconds=60)
    said = desk.owner.types(the("uninstall", 3), seconds=90)
    assert "default/smollm2 is free" in said
    assert _finalizers(desk.cluster) == []


def test_what_is_left_can_be_removed_by_the_commands_of_the_table(desk: Desk) -> None:
    for command in _commands_of_the_table():
        desk.owner.runs(command, seconds=120)
    desk.owner.runs("kubectl delete namespace roadstead", seconds=120)
    assert "roadstead.dev" not in desk.cluster.kubectl("get", "crds")


# ── A fleet for some namespaces ──────────────────────────────────────────────────────────────────────────────────────


def test_an_installer_without_rights_in_the_cluster_gets_a_fleet_for_some_namespaces(desk: Desk) -> None:
    for reader in (desk.owner, desk.installer):
        reader.types(the("install", 1), seconds=10)
    desk.owner.types(the("install", 7), seconds=60)
    desk.installer.types(the("install", 8), seconds=300)
    desk.installer.runs("kubectl apply --namespace team-a -f $EXAMPLE", seconds=30)
    desk.installer.runs("kubectl wait --namespace team-a --for=condition=Ready lm/smollm2 --timeout=5m", seconds=320)
    desk.installer.runs("helm test roadstead --namespace fleet --logs", seconds=120)


def test_the_installer_sees_pools_by_the_plan_because_their_status_stays_empty(desk: Desk) -> None:
    assert "status" not in desk.cluster.get("workerpool", "cpu")
    assert "smollm2" in desk.installer.runs("roadstead plan --in fleet", seconds=60)
    assert set(NODES) <= set(desk.installer.runs("roadstead nodes --in fleet", seconds=60).split())


def test_the_installer_uninstalls_and_the_owner_removes_the_rest(desk: Desk) -> None:
    desk.installer.runs("helm uninstall roadstead --namespace fleet --wait --timeout 10m", seconds=300)
    desk.owner.runs("kubectl delete workerpool cpu", seconds=30)
    desk.owner.runs("kubectl delete clusterrole,clusterrolebinding fleet:roadstead-operator", seconds=30)
    desk.owner.runs("kubectl delete -f docs/examples/installer-role.yaml", seconds=30)
    desk.owner.runs("kubectl delete namespace fleet team-a", seconds=180)
    left = desk.cluster.get("clusterroles,clusterrolebindings,workerpools", "-l", "app.kubernetes.io/part-of=roadstead")
    assert [one["metadata"]["name"] for one in left["items"]] == []


def test_nothing_was_left_out_but_what_says_why(desk: Desk) -> None:
    every = {snippet for page in PAGES for snippet in snippets(page)}
    assert every - {*desk.owner.typed, *desk.installer.typed} == set(LEFT_OUT)


# ── What the readers have ────────────────────────────────────────────────────────────────────────────────────────────


def _values_of_this_cluster(folder: Path) -> Path:
    values = {
        "networkPolicy": {"dns": {"ports": [53, 5353]}},  # the test cluster's CoreDNS has no right to port 53
        "workloads": {"httpHosts": [MODEL_HOST]},
    }
    path = folder / "of-this-cluster.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _example(folder: Path) -> Path:
    """The page's, but for its source: digest and all are the same file's."""
    weights = example_weights()
    assert weights is not None
    example = yaml.safe_load((CHECKOUT / "docs" / "examples" / "smollm2-in-a-cluster.yaml").read_text())
    (variant,) = example["spec"]["variants"]
    variant["source"] = f"http://{MODEL_HOST}/{weights.name}"
    path = folder / "example.yaml"
    path.write_text(yaml.safe_dump(example))
    return path


def _kubeconfig_of_the_installer(cluster: Cluster, folder: Path) -> Path:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    server = config["clusters"][0]["cluster"]["server"]
    authority = Authority.kept(cluster.home.secrets)
    return authority.kubeconfig(folder / "installer.kubeconfig", server=server, user=_INSTALLER)


# ── What is looked at ────────────────────────────────────────────────────────────────────────────────────────────────


def _tokens(cluster: Cluster) -> dict[str, str]:
    data: dict[str, str] = cluster.get("--namespace", "roadstead", "secret", "roadstead-tokens")["data"]
    return data


def _finalizers(cluster: Cluster) -> list[str]:
    model = cluster.get("--namespace", "default", "localmodel", "smollm2")
    return list(model["metadata"].get("finalizers") or [])


def _claims(cluster: Cluster) -> list[str]:
    """The first words of their names."""
    claims = cluster.get("--namespace", "roadstead", "pvc")["items"]
    return sorted(claim["metadata"]["name"].partition("-")[0] for claim in claims)


def _commands_of_the_table() -> list[str]:
    text = (PAGE_FOLDER / "uninstall.md").read_text()
    return re.findall(r"\| `(kubectl delete [^`]+)` \|$", text, flags=re.MULTILINE)
