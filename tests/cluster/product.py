"""The product on a test cluster: installed by its chart, with a model to serve, and what one looks at from outside."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml

from roadstead.embedded.example_model import example_weights
from tests.cluster.images import Images
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.home import CHECKOUT, NODES
from tests.cluster.waiting import until

CHART: Final = CHECKOUT / "charts" / "roadstead"
RELEASE: Final = "roadstead"
NAMESPACE: Final = "roadstead"
TEAM: Final = "team-a"
MODEL: Final = "smollm2"
POOL: Final = "cpu"
MODEL_HOST: Final = "models.models.svc.cluster.local:8000"
"""Where `Product.serve_model_files` has them."""
_ENGINE: Final = b"llama-server"


@dataclass(frozen=True, slots=True)
class Product:
    """A release of the chart."""

    cluster: Cluster
    images: Images
    folder: Path
    """For the values that were given last."""
    given: dict[str, Any]
    """The values of the release, as they were given last."""

    @classmethod
    def of(cls, cluster: Cluster, images: Images, *, folder: Path) -> Self:
        """Not yet installed, with the values of a small cluster."""
        return cls(cluster=cluster, images=images, folder=folder, given=_values(images))

    # ── Helm ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def install(self) -> None:
        """As the how-to says it: namespace, release, wait."""
        self.cluster.helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace"),
            *("--values", str(self._values_file()), "--wait", "--timeout", "10m"),
        )

    def upgrade(self, **changed: Mapping[str, Any]) -> None:
        """The same chart with other values."""
        for key, value in changed.items():
            self.given[key] = {**self.given.get(key, {}), **value}
        self.cluster.helm(
            *("upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE),
            *("--values", str(self._values_file()), "--wait", "--timeout", "10m"),
        )

    def _values_file(self) -> Path:
        path = self.folder / "values.yaml"
        path.write_text(yaml.safe_dump(self.given))
        return path

    # ── A model ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def serve_model_files(self) -> None:
        """A web server in the cluster with SmolLM2's weights, as a team would have one."""
        weights = example_weights()
        assert weights is not None
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(_model_host(self.images.roadstead, weights)))
        self.cluster.kubectl("-n", "models", "rollout", "status", "deployment/models", "--timeout=120s")

    def apply_model(self, name: str = MODEL, *, replicas: int = 2) -> None:
        """A LocalModel, in the team's namespace."""
        weights = example_weights()
        assert weights is not None
        self.cluster.kubectl("create", "namespace", TEAM, check=False)
        model = {
            "apiVersion": "roadstead.dev/v1alpha1",
            "kind": "LocalModel",
            "metadata": {"name": name, "namespace": TEAM},
            "spec": {
                "variants": [{"name": "q4", "source": f"http://{MODEL_HOST}/{weights.name}"}],
                "requirements": {"contextTokens": 1024, "concurrency": 2},
                "replicas": replicas,
            },
        }
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(model))

    def model(self) -> dict[str, Any]:
        return self.cluster.get("-n", TEAM, "localmodel", MODEL)

    def slots(self) -> list[dict[str, Any]]:
        """Rows of ``status.slots``."""
        rows: list[dict[str, Any]] = self.model().get("status", {}).get("slots") or []
        return rows

    def until_ready(self, *, seconds: float = 300.0) -> None:
        self.cluster.kubectl(
            *("-n", TEAM, "wait", "--for=condition=Ready", f"localmodel/{MODEL}", f"--timeout={seconds:.0f}s"),
            timeout_seconds=seconds + 30,
        )

    def until_served(self, *nodes: str, seconds: float = 300.0) -> None:
        """Until every replica that is wanted answers and no other slot is left; with ``nodes``, on exactly these."""

        def settled() -> bool:
            model = self.model()
            rows = model["status"].get("slots") or []
            return (
                (not nodes or {row["node"] for row in rows} == set(nodes))
                and all(row["ready"] == row["replicas"] and row["state"] == "Serving" for row in rows)
                and model["status"].get("readyReplicas") == model["spec"]["replicas"]
            )

        where = f" on {', '.join(nodes)}" if nodes else ""
        until(settled, f"{MODEL} is served{where}", seconds=seconds, tell=self.slots)

    # ── What runs ────────────────────────────────────────────────────────────────────────────────────────────────────

    def pods(self, component: str) -> dict[str, dict[str, Any]]:
        """Pods of a component by name."""
        found = self.cluster.get("-n", NAMESPACE, "pods", "-l", f"app.kubernetes.io/component={component}")
        return {pod["metadata"]["name"]: pod for pod in found["items"]}

    def names(self, kind: str, *selector: str) -> set[str]:
        """Names of objects in the product's namespace."""
        listed = self.cluster.kubectl("-n", NAMESPACE, "get", kind, *selector, "-o", "name").split()
        return {name.partition("/")[2] for name in listed}

    def engines(self) -> dict[int, str]:
        """Engines that run on the nodes: pid on the host, and when it was started (a pid may come again)."""
        found: dict[int, str] = {}
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    if self._is_engine(process):
                        found[int(process.name)] = (process / "stat").read_text().rpartition(")")[2].split()[19]
                except OSError:
                    continue  # it ended
        return found

    def _is_engine(self, process: Path) -> bool:
        program = (process / "cmdline").read_bytes().partition(b"\0")[0]
        return program.endswith(_ENGINE) and self.cluster.home.cgroup in (process / "cgroup").read_text()

    def workers_run(self, image_digest: str, *nodes: str) -> bool:
        """Whether exactly these nodes have a worker, each one, each Ready, of this image."""
        pods = self.pods("worker").values()
        return sorted(pod["metadata"]["annotations"]["roadstead.dev/node"] for pod in pods) == sorted(nodes) and all(
            pod["metadata"]["annotations"]["roadstead.dev/image"].endswith(image_digest) and is_ready(pod)
            for pod in pods
        )

    def client_key(self) -> str:
        secret = self.cluster.get("-n", NAMESPACE, "secret", f"{RELEASE}-client-key")
        return base64.b64decode(secret["data"]["api-key"]).decode()

    @contextmanager
    def gateway(self) -> Iterator[str]:
        """The gateway's Service, as a client on the first node reaches it."""
        with self.cluster.forward(f"{NAMESPACE}/{RELEASE}-gateway", 80, node=NODES[0]) as port:
            yield f"http://127.0.0.1:{port}"

    def cli(self) -> dict[str, str]:
        """The environment of a person who uses the command line."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROADSTEAD_")}
        return {**kept, "KUBECONFIG": str(self.cluster.kubeconfig)}


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a Pod is Ready and not being deleted."""
    conditions = pod.get("status", {}).get("conditions") or []
    return "deletionTimestamp" not in pod["metadata"] and any(
        (condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions
    )


def _values(images: Images) -> dict[str, Any]:
    return {
        "image": images.values(),
        "workloads": {"httpHosts": [MODEL_HOST]},
        "networkPolicy": {"dns": {"ports": [53, 5353]}},  # the test cluster's CoreDNS has no right to port 53
        "workerPools": {
            POOL: {"workers": {"store": {"size": "2Gi"}, "resources": {"cpu": "2", "memory": "3Gi"}}},
        },
    }


def _model_host(image: str, weights: Path) -> dict[str, Any]:
    labels = {"app": "models"}
    container = {
        "name": "web",
        "image": image,
        "command": ["python3", "-m", "http.server", "8000", "--directory", "/models"],
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "models", "hostPath": {"path": str(weights.parent), "type": "Directory"}}],
    }
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "models", "namespace": "models"},
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": spec},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "models", "namespace": "models"},
                "spec": {"selector": labels, "ports": [{"port": 8000}]},
            },
        ],
    }
