"""Helm against a real API server: what an upgrade keeps, and what a person without the cluster may install.

Hooks are left out: there is no kubelet here that would run their Pods. `tests/cluster` runs them.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tests.contract.chart.conftest import CHART, DIGEST, TEAMS, VALUES, Helm, Object, of_kind
from tests.fixtures.control_plane import RunningControlPlane

pytestmark = pytest.mark.contract

INSTALLER = "platform-of-team-a"
ADMIN = ("system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view")
"""What a controller puts together as the ClusterRole `admin`; there is none here."""


def bind(plane: RunningControlPlane, namespace: str, user: str, *roles: str) -> None:
    for number, role in enumerate(roles):
        name = f"{user}-{number}"
        plane.kubectl("create", "rolebinding", name, "-n", namespace, f"--clusterrole={role}", f"--user={user}")


@pytest.fixture
def installing(helm: Helm, plane: RunningControlPlane) -> Helm:
    """Helm as the administrator."""
    return dataclasses.replace(helm, kubeconfig=plane.kubeconfig)


def secrets(plane: RunningControlPlane, namespace: str) -> dict[str, dict[str, str]]:
    listed = json.loads(plane.kubectl("get", "secrets", "-n", namespace, "-l", "app.kubernetes.io/name", "-o", "json"))
    return {each["metadata"]["name"]: each["data"] for each in listed["items"]}


def pod_templates(plane: RunningControlPlane, namespace: str) -> dict[str, Any]:
    listed = json.loads(plane.kubectl("get", "deployments,statefulsets", "-n", namespace, "-o", "json"))
    return {each["metadata"]["name"]: each["spec"]["template"] for each in listed["items"]}


def test_secrets_are_made_once_and_stay_over_upgrades_and_rollbacks(
    installing: Helm, plane: RunningControlPlane, namespace: str
) -> None:
    fleet = ("roadstead", CHART, "--namespace", namespace, "--set", f"image.worker.digest={DIGEST}", "--no-hooks")
    installing("install", *fleet)
    first = secrets(plane, namespace)
    pods = pod_templates(plane, namespace)

    installing("upgrade", *fleet, "--set", "gateway.replicas=3")
    installing("upgrade", *fleet, "--set", "logLevel=debug")
    assert secrets(plane, namespace) == first
    installing("rollback", "roadstead", "2", "--namespace", namespace, "--no-hooks")

    assert secrets(plane, namespace) == first
    assert sorted(first) == [f"roadstead-{name}" for name in ("client-key", "database", "keys", "tokens")]
    assert pod_templates(plane, namespace) == pods, "what changed meanwhile was no Pod's"
    installing("uninstall", "roadstead", "--namespace", namespace, "--no-hooks")
    assert secrets(plane, namespace) == {}


def test_a_key_that_was_added_to_the_charts_own_stays_over_an_upgrade(
    installing: Helm, plane: RunningControlPlane, namespace: str
) -> None:
    fleet = ("roadstead", CHART, "--namespace", namespace, "--set", f"image.worker.digest={DIGEST}", "--no-hooks")
    installing("install", *fleet)
    added = "YQo="
    plane.kubectl("patch", "secret", "roadstead-keys", "-n", namespace, "-p", json.dumps({"data": {"keys": added}}))

    installing("upgrade", *fleet, "--force-conflicts")

    assert secrets(plane, namespace)["roadstead-keys"] == {"keys": added}


def test_a_person_with_rights_in_namespaces_only_installs_a_fleet_for_them(
    installing: Helm, plane: RunningControlPlane, namespace: str
) -> None:
    """As the how-to says: the cluster's owner applies what has no namespace and binds one ClusterRole per namespace."""
    values = VALUES / "right" / "two-namespaces.yaml"
    installer = CHART.parents[1] / "docs/examples/installer-role.yaml"
    plane.kubectl("apply", "-f", str(installer))
    for where in (namespace, *TEAMS):
        bind(plane, where, INSTALLER, *ADMIN, "roadstead-installer")

    said = installing(
        *("install", "roadstead", CHART, "--namespace", namespace, "--values", values),
        *("--skip-crds", "--no-hooks", "--kube-as-user", INSTALLER),
    )

    assert "STATUS: deployed" in said
    roles = json.loads(plane.kubectl("get", "roles,rolebindings", "-A", "-o", "json", "-l", "helm.sh/chart"))
    places = {
        each["metadata"]["namespace"]
        for each in roles["items"]
        if each["metadata"]["annotations"].get("meta.helm.sh/release-namespace") == namespace
    }
    assert places == {namespace, *TEAMS}
    installing("uninstall", "roadstead", "--namespace", namespace, "--no-hooks")


def test_without_the_installers_role_nothing_is_handed_on(
    installing: Helm, plane: RunningControlPlane, namespace: str
) -> None:
    bind(plane, namespace, "somebody", *ADMIN)

    answer = installing.run(
        *("install", "roadstead", CHART, "--namespace", namespace, "--set", f"image.worker.digest={DIGEST}"),
        *("--set", "clusterScoped.create=false", "--skip-crds", "--no-hooks", "--kube-as-user", "somebody"),
    )

    assert "attempting to grant RBAC permissions not currently held" in answer.stderr


@pytest.fixture
def hook_accounts(helm: Helm, plane: RunningControlPlane, namespace: str) -> list[Object]:
    """The hooks' accounts with their roles, as they are while a hook runs."""
    objects = helm.rendered(VALUES / "right" / "one-pool.yaml", namespace=namespace)
    made = of_kind(objects, "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    items = {"apiVersion": "v1", "kind": "List", "items": made}
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(items))
    return made


def test_the_crd_hook_may_raise_our_definitions_and_touch_no_other(
    hook_accounts: list[Object], plane: RunningControlPlane, namespace: str
) -> None:
    account = f"--as=system:serviceaccount:{namespace}:roadstead-crds"
    other = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "localmodels.other.dev"},
    }

    crds = ("apply", "--server-side", "--force-conflicts", "--dry-run=server")
    plane.kubectl(*crds, account, "-f", str(CHART / "crds"))
    said = plane.kubectl(*crds, account, "-f", "-", stdin=json.dumps(other), check=False)

    assert 'customresourcedefinitions.apiextensions.k8s.io "localmodels.other.dev" is forbidden' in said
    assert allowed(plane, account, "delete", "crd/localmodels.roadstead.dev") == "no"


QUESTIONS = [
    ("operator", "watch localmodels.roadstead.dev", "yes"),
    ("operator", "create localmodels.roadstead.dev", "no"),
    ("operator", "get secrets", "no"),
    ("operator", "delete persistentvolumeclaims", "no"),
    ("operator", "get namespaces/kube-system", "yes"),
    ("operator", "get namespaces/default", "no"),
    ("gateway", "watch modelroutes.roadstead.dev", "yes"),
    ("gateway", "patch modelroutes.roadstead.dev", "no"),
    ("gateway", "list pods", "no"),
    ("uninstall", "patch localmodels.roadstead.dev", "yes"),
    ("uninstall", "delete localmodels.roadstead.dev", "no"),
    ("uninstall", "delete persistentvolumeclaims", "no"),
    ("worker", "get pods", "no"),
    ("agent", "get pods", "no"),
    ("head", "get pods", "no"),
]


def test_each_account_may_do_what_its_component_does(
    hook_accounts: list[Object], plane: RunningControlPlane, namespace: str
) -> None:
    def account(component: str) -> str:
        return f"--as=system:serviceaccount:{namespace}:roadstead-{component}"

    found = [
        (component, question, allowed(plane, account(component), *question.split(), "-n", namespace))
        for component, question, _ in QUESTIONS
    ]

    assert found == QUESTIONS


def allowed(plane: RunningControlPlane, *question: str) -> str:
    """``yes`` or ``no``; kubectl warns where a resource has no namespace."""
    said = plane.kubectl("auth", "can-i", *question, check=False).split()
    return next(word for word in said if word in {"yes", "no"})
