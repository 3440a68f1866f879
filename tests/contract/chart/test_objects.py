"""What the chart makes says what the reference says: names, labels, secrets, variables, rights."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roadstead.adapters.kube.workloads import read_workloads
from tests.contract.chart.conftest import CHART, DIGEST, VALUES, Helm, Object, of_kind, pods_of

pytestmark = pytest.mark.contract

RIGHT = sorted((VALUES / "right").glob("*.yaml"))
REFERENCE = Path(__file__).resolve().parents[3] / "docs/reference/cluster.md"
COMPONENTS = {"operator", "gateway", "head", "agent", "worker", "postgres", "uninstall", "crds", "test"}


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("values", RIGHT, ids=lambda path: path.stem)
def test_the_operator_understands_the_workloads_that_the_chart_tells_it(
    values: Path, helm: Helm, tmp_path: Path
) -> None:
    objects = helm.rendered(values, namespace="fleet", release="ai")
    accounts = {account["metadata"]["name"] for account in of_kind(objects, "ServiceAccount")}
    heads = {head["metadata"]["name"] for head in of_kind(objects, "Service")}
    (tmp_path / "workloads.yaml").write_text(named(objects, "ConfigMap", "ai-workloads")["data"]["workloads.yaml"])

    workloads = read_workloads(tmp_path / "workloads.yaml")

    assert workloads.release == "ai"
    assert {workloads.service_accounts.agent, workloads.service_accounts.worker} <= accounts
    assert {address.partition(".")[0] for address in workloads.cells.values()} <= heads
    assert all(address.endswith(".fleet.svc:6379") for address in workloads.cells.values())


def test_every_setting_for_workloads_reaches_the_operator(helm: Helm, tmp_path: Path) -> None:
    settings = {
        "image.registry": "mirror.lan",
        "image.roadstead.tag": "9.9",
        "image.pullPolicy": "Always",
        "image.pullSecrets[0]": "login",
        "tokens.existingSecret": "own",
        "workloads.httpHosts[0]": "models.lan:8000",
        "workloads.priorityClassName": "fleet",
        "workloads.agent.resources.limits.cpu": "2",
        "logLevel": "debug",
        "commonLabels.team": "a",
    }
    objects = helm.rendered(RIGHT[0], sets=[f"{path}={value}" for path, value in settings.items()])
    (tmp_path / "w.yaml").write_text(named(objects, "ConfigMap", "roadstead-workloads")["data"]["workloads.yaml"])

    said = read_workloads(tmp_path / "w.yaml")

    assert said.image == "mirror.lan/roadstead/roadstead:9.9"
    assert (said.image_pull_policy, said.image_pull_secrets, said.tokens_secret) == ("Always", ("login",), "own")
    assert (said.http_hosts, said.priority_class_name) == (("models.lan:8000",), "fleet")
    assert (said.agent.resources.limits["cpu"], said.log_level, said.labels) == ("2", "debug", {"team": "a"})


@pytest.mark.parametrize("values", RIGHT, ids=lambda path: path.stem)
def test_every_object_has_the_labels_by_which_it_is_found(values: Path, helm: Helm) -> None:
    for each in helm.rendered(values, release="ai", namespace="fleet"):
        labels = each["metadata"]["labels"]
        where = f"{each['kind']} {each['metadata']['name']}"

        assert labels["app.kubernetes.io/name"] == labels["app.kubernetes.io/part-of"] == "roadstead", where
        assert labels["app.kubernetes.io/instance"] == "ai", where
        assert labels["app.kubernetes.io/component"] in COMPONENTS, where


def test_another_release_name_leaves_no_trace_of_the_first(helm: Helm) -> None:
    names = [each["metadata"]["name"] for each in helm.rendered(RIGHT[0], release="ai", namespace="fleet")]

    assert [name for name in names if not re.match(r"(fleet:)?ai-", name)] == []


def test_another_version_of_the_chart_alone_restarts_no_pod(helm: Helm, objects: list[Object], tmp_path: Path) -> None:
    newer = tmp_path / "roadstead"
    shutil.copytree(CHART, newer)
    description = newer / "Chart.yaml"
    description.write_text(description.read_text().replace("\nversion: 0.1.0", "\nversion: 0.9.0"))

    again = helm.rendered(VALUES / "right" / "one-pool.yaml", chart=newer)

    assert "roadstead-0.9.0" in str(again)
    kinds = ("Deployment", "StatefulSet")
    assert pods_of(of_kind(again, *kinds)) == pods_of(of_kind(objects, *kinds))


# ── Variables ────────────────────────────────────────────────────────────────────────────────────────────────────────

PODS_OF_THE_CHART = {
    "operator": "operator",
    "its init container": "migrations",
    "gateway": "gateway",
    "head": "head",
    "head agent": "agent",
}


@pytest.mark.parametrize(("row", "name"), PODS_OF_THE_CHART.items(), ids=PODS_OF_THE_CHART)
def test_a_container_has_the_command_and_the_variables_of_the_reference(
    row: str, name: str, objects: list[Object]
) -> None:
    section = REFERENCE.read_text().split("## Variables")[1]
    found = re.search(rf"^\| {row} \| `(?P<command>[^`]+)` \| (?P<variables>.+) \|$", section, flags=re.MULTILINE)
    assert found is not None
    told = dict(re.findall(r"`(ROADSTEAD_\w+)(?:=([^`]*))?`", found["variables"].partition("Without")[0]))
    (container,) = [each for _, each in containers(objects) if each["name"] == name]
    said = {entry["name"]: entry.get("value", "") for entry in container["env"]}

    assert " ".join(container["command"]) == found["command"]
    assert told.keys() <= said.keys()
    assert {variable: said[variable] for variable, value in told.items() if value} == {
        variable: value for variable, value in told.items() if value
    }
    assert (said["HOME"], said["ROADSTEAD_LOG_LEVEL"]) == ("/tmp", "info")


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def mounted_files(pod: Object, container: Object) -> set[str]:
    """Every file of a Secret that a container sees."""
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    found = set()
    for mount in container["volumeMounts"]:
        secret = volumes[mount["name"]].get("secret", {})
        assert not secret or mount["readOnly"], mount
        found |= {f"{mount['mountPath']}/{item['path']}" for item in secret.get("items", ())}
    return found


TOKENS = "/etc/roadstead/tokens"
MOUNTED = {
    "migrations": {"/etc/roadstead/database/url"},
    "operator": {f"{TOKENS}/door.token", f"{TOKENS}/api.token", "/etc/roadstead/database/url"},
    "gateway": {f"{TOKENS}/door.token", f"{TOKENS}/replica.token", "/etc/roadstead/keys/keys"},
    "head": {f"{TOKENS}/ray.token"},
    "agent": {f"{TOKENS}/ray.token", f"{TOKENS}/door.token"},
    "postgres": {"/etc/roadstead/database/password"},
    "uninstall": {f"{TOKENS}/door.token"},
    "crds": set(),
    "chat": {"/etc/roadstead/client/api-key"},
}


def containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    for pod in pods_of(objects).values():
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            yield pod, container


def test_each_container_sees_the_secrets_it_needs_and_no_other(objects: list[Object]) -> None:
    assert {container["name"]: mounted_files(pod, container) for pod, container in containers(objects)} == MOUNTED


def test_every_file_that_a_variable_names_is_mounted(objects: list[Object]) -> None:
    for pod, container in containers(objects):
        files = {entry["value"] for entry in container.get("env", ()) if entry["name"].endswith("_FILE")}
        seen = mounted_files(pod, container) | {"/etc/roadstead/workloads/workloads.yaml"}

        assert files <= seen, container["name"]


def test_no_secret_is_ever_a_variable(objects: list[Object]) -> None:
    said = [entry for _, container in containers(objects) for entry in container.get("env", ())]

    assert [entry for entry in said if "secretKeyRef" in str(entry)] == []
    assert [each for _, each in containers(objects) if "envFrom" in each] == []


def test_the_first_client_key_opens_the_gateway(objects: list[Object]) -> None:
    def read(name: str, key: str) -> str:
        return base64.b64decode(named(objects, "Secret", name)["data"][key]).decode()

    key = read("roadstead-client-key", "api-key")

    assert read("roadstead-keys", "keys").split()[0] == hashlib.sha256(key.encode()).hexdigest()
    assert len(key) > 40


def test_secrets_of_ones_own_are_used_and_none_is_made(helm: Helm) -> None:
    objects = helm.rendered(VALUES / "right" / "secrets-of-ones-own.yaml")

    assert of_kind(objects, "Secret") == []
    used = set(re.findall(r"'secretName': '([\w-]+)'", str(objects)))
    assert used == {"fleet-tokens", "fleet-keys", "fleet-database", "fleet-first-key"}


# ── Rights ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def rules(objects: list[Object]) -> Iterator[tuple[str, dict[str, Any]]]:
    for role in of_kind(objects, "Role", "ClusterRole"):
        for rule in role["rules"]:
            yield f"{role['kind']} {role['metadata']['name']}", rule


@pytest.mark.parametrize("values", RIGHT, ids=lambda path: path.stem)
def test_no_role_has_a_wildcard_or_reads_a_secret(values: Path, helm: Helm) -> None:
    for role, rule in rules(helm.rendered(values)):
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"]), role
        assert "secrets" not in rule["resources"], role


def test_only_what_calls_the_api_server_gets_a_token_for_it(objects: list[Object]) -> None:
    with_token = {name for name, pod in pods_of(objects).items() if pod["spec"]["automountServiceAccountToken"]}
    bound = {binding["subjects"][0]["name"] for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding")}

    assert with_token == {"operator", "gateway", "crds", "uninstall"}
    assert bound == {f"roadstead-{name}" for name in with_token}
    assert [each for each in of_kind(objects, "ServiceAccount") if each["automountServiceAccountToken"]] == []


def test_with_namespaces_the_only_cluster_role_that_stays_is_one_for_reading(helm: Helm) -> None:
    objects = helm.rendered(VALUES / "right" / "two-namespaces-and-the-cluster.yaml")
    staying = [each for each in objects if "helm.sh/hook" not in each["metadata"].get("annotations", {})]

    found = {
        (resource, verb, tuple(rule.get("resourceNames", ())))
        for _, rule in rules(of_kind(staying, "ClusterRole"))
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert found == {
        ("nodes", "list", ()), ("nodes", "watch", ()), ("workerpools", "list", ()), ("workerpools", "watch", ()),
        ("resourceslices", "list", ()), ("resourceslices", "watch", ()), ("namespaces", "get", ("kube-system",)),
    }  # fmt: skip
    roles = [(role["metadata"]["namespace"], role["metadata"]["name"]) for role in of_kind(staying, "Role")]
    assert ("team-a", "roadstead:roadstead-models") in roles
    assert ("team-b", "roadstead:roadstead-models") in roles


def test_without_the_cluster_scoped_part_nothing_is_outside_of_a_namespace(helm: Helm) -> None:
    objects = helm.rendered(VALUES / "right" / "two-namespaces.yaml")

    assert [each["kind"] for each in objects if "namespace" not in each["metadata"]] == []
    assert [each for each in of_kind(objects, "Job") if each["metadata"]["name"].endswith("crds")] == []


def test_the_cluster_scoped_part_can_be_rendered_alone(helm: Helm) -> None:
    """What the how-to has whoever owns the cluster apply."""
    values = str(VALUES / "right" / "two-namespaces-and-the-cluster.yaml")

    said = helm("template", "roadstead", CHART, "-n", "fleet", "--values", values, "--show-only", "templates/cluster/*")

    assert sorted(re.findall(r"^kind: (\w+)", said, flags=re.MULTILINE)) == [
        "ClusterRole",
        "ClusterRoleBinding",
        "WorkerPool",
    ]


# ── What a Pod is kept from ──────────────────────────────────────────────────────────────────────────────────────────


def test_every_container_is_confined_beyond_what_restricted_demands(objects: list[Object]) -> None:
    for pod, container in containers(objects):
        assert pod["spec"]["enableServiceLinks"] is False
        assert {pod["spec"]["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, container["name"]
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, container["name"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, container["name"]
        assert "memory" in container["resources"]["limits"], container["name"]


# ── What keeps it up ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gateway_that_ends_is_given_time_to_leave_and_to_drain(helm: Helm) -> None:
    pod = pods_of(helm.rendered(RIGHT[0], sets=["gateway.drainSeconds=300"]))["gateway"]["spec"]
    (container,) = pod["containers"]
    drain = next(entry["value"] for entry in container["env"] if entry["name"] == "ROADSTEAD_DRAIN_SECONDS")
    leave = container["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert drain == "300"
    assert pod["terminationGracePeriodSeconds"] > int(drain) + leave


def test_the_operator_restarts_when_what_it_reads_once_changes(helm: Helm) -> None:
    def annotations(*sets: str) -> dict[str, str]:
        found: dict[str, str] = pods_of(helm.rendered(RIGHT[0], sets=sets))["operator"]["metadata"]["annotations"]
        return found

    assert annotations() == annotations("gateway.replicas=5")
    assert annotations() != annotations("workloads.httpHosts={models.lan}")


def test_each_image_may_come_from_a_mirror_and_by_digest(helm: Helm) -> None:
    objects = helm.rendered(VALUES / "right" / "a-private-registry.yaml")
    images = {container["image"] for _, container in containers(objects)}
    digest = "sha256:" + "fedcba9876543210" * 4

    assert images == {
        f"mirror.lan:5000/ai/roadstead/roadstead@{digest}",
        f"mirror.lan:5000/ai/roadstead/worker-cpu@{DIGEST}",
        "mirror.lan:5000/ai/roadstead/postgres:18.6",
    }
    assert all(
        pod["spec"]["imagePullSecrets"] == [{"name": "mirror-login"}, {"name": "other-login"}]
        for pod in pods_of(objects).values()
    )


def test_a_pool_offers_the_worker_image_unless_it_names_engines_of_its_own(helm: Helm) -> None:
    plain = of_kind(helm.rendered(VALUES / "right" / "one-pool.yaml"), "WorkerPool")
    (_, gpu) = of_kind(helm.rendered(VALUES / "right" / "two-pools.yaml"), "WorkerPool")

    assert plain[0]["spec"]["engines"] == [{"engine": "LlamaCpp", "image": f"roadstead/worker-cpu@{DIGEST}"}]
    assert plain[0]["spec"]["workers"]["cell"] == "cell-0"
    assert "annotations" not in plain[0]["metadata"]
    assert [engine["engine"] for engine in gpu["spec"]["engines"]] == ["VLLM", "LlamaCpp"]
    assert gpu["metadata"]["annotations"] == {"roadstead.dev/adopt": "sha256:" + "fedcba9876543210" * 4}


def test_a_pool_says_of_its_engines_what_the_values_say(helm: Helm) -> None:
    (_, gpu) = of_kind(helm.rendered(VALUES / "right" / "two-pools.yaml"), "WorkerPool")

    vllm, llama_cpp = gpu["spec"]["engines"]
    assert {key: vllm[key] for key in vllm.keys() - {"engine", "image"}} == {
        "backends": ["CUDA"], "version": "0.33.0", "computeCapability": "7.5",
    }  # fmt: skip
    assert llama_cpp.keys() == {"engine", "image"}


def test_the_kubelet_asks_heads_and_head_agents_what_the_reference_says(objects: list[Object]) -> None:
    section = REFERENCE.read_text().split("## Probes")[1].split("\n## ")[0]
    for row, name in (("head (Ray)", "head"), ("head agent", "agent")):
        cells = next(line for line in section.splitlines() if line.startswith(f"| {row} |")).split("|")[2:5]
        (container,) = [each for _, each in containers(objects) if each["name"] == name]
        for kind, cell in zip(("startup", "readiness", "liveness"), cells, strict=True):
            probe = container.get(f"{kind}Probe")
            said = "" if probe is None else told(probe, container["ports"])

            assert said == cell.strip(), f"{kind} of {name}"


def told(probe: Object, ports: list[Object]) -> str:
    """As the reference writes it."""
    number = next(port["containerPort"] for port in ports if port["name"] == probe["httpGet"]["port"])
    figures = f"{probe['periodSeconds']}, {probe['timeoutSeconds']}, {probe['failureThreshold']}"
    return f"`:{number}{probe['httpGet']['path']}` {figures}"
