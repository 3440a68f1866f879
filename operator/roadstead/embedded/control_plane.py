"""Command lines of etcd, kube-apiserver and kube-controller-manager on loopback, and when each is ready.

The scheduler and kubelets are left out: in an embedded fleet Ray's workers stand for pods. The controller-manager runs
the four controllers without which Node conditions, garbage collection and namespace deletion would not be true.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from roadstead.embedded.binaries import Binaries
from roadstead.embedded.certificates import Certificates
from roadstead.embedded.files import write_atomically
from roadstead.embedded.ports import PortWish
from roadstead.embedded.processes import ProcessSpec
from roadstead.embedded.readiness import answers, unverified_tls

HOST = "127.0.0.1"
PORTS = (
    PortWish("etcd-client"),
    PortWish("etcd-peer"),
    PortWish("kube-apiserver"),
    PortWish("kube-controller-manager"),
)
_CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "node-lifecycle-controller",
)
_SERVICE_ADDRESSES = "10.96.0.0/16"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Everything the three command lines are made of."""

    binaries: Binaries
    certificates: Certificates
    ports: Mapping[str, int]
    data: Path
    kubeconfig: Path
    audit_log: Path
    durable: bool = True
    """False skips etcd's fsync: faster, and a crash of the *machine* may lose the data."""

    @property
    def server_url(self) -> str:
        return f"https://{HOST}:{self.ports['kube-apiserver']}"

    @property
    def audit_policy(self) -> Path:
        return self.data / "audit-policy.json"

    def write_audit_policy(self) -> None:
        """Who changed what, without bodies; reads are left out, so that the log stays small and says who *acts*."""
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "None", "verbs": ["get", "list", "watch"]}, {"level": "Metadata"}],
        }
        write_atomically(self.audit_policy, json.dumps(policy, indent=2) + "\n")

    def specs(self) -> tuple[ProcessSpec, ...]:
        return self._etcd(), self._apiserver(), self._controller_manager()

    def _etcd(self) -> ProcessSpec:
        client = f"http://{HOST}:{self.ports['etcd-client']}"
        peer = f"http://{HOST}:{self.ports['etcd-peer']}"
        command = (
            str(self.binaries.etcd),
            "--name=roadstead",
            f"--data-dir={self.data / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=roadstead={peer}",
            "--log-level=warn",
            *(() if self.durable else ("--unsafe-no-fsync",)),
        )
        return ProcessSpec(name="etcd", command=command, ready=answers(f"{client}/health"))

    def _apiserver(self) -> ProcessSpec:
        certificates = self.certificates
        command = (
            str(self.binaries.kube_apiserver),
            f"--etcd-servers=http://{HOST}:{self.ports['etcd-client']}",
            f"--bind-address={HOST}",
            f"--secure-port={self.ports['kube-apiserver']}",
            f"--advertise-address={HOST}",
            f"--tls-cert-file={certificates.server}",
            f"--tls-private-key-file={certificates.server_key}",
            f"--client-ca-file={certificates.authority}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={certificates.service_account_key}",
            f"--service-account-signing-key-file={certificates.service_account_key}",
            f"--service-cluster-ip-range={_SERVICE_ADDRESSES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # A loopback address is refused as an endpoint of the `kubernetes` Service, and nobody here wants one.
            "--endpoint-reconciler-type=none",
            "--profiling=false",
            f"--audit-policy-file={self.audit_policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=64",
            "--audit-log-maxbackup=2",
        )

        tls: ssl.SSLContext | None = None

        async def ready() -> str | None:
            nonlocal tls
            tls = tls or ssl.create_default_context(cafile=str(certificates.authority))
            return await answers(f"{self.server_url}/readyz", tls=tls)()

        return ProcessSpec(
            name="kube-apiserver",
            command=command,
            depends_on=("etcd",),
            ready=ready,
            ready_within_seconds=120,
            stop_within_seconds=20,
        )

    def _controller_manager(self) -> ProcessSpec:
        port = self.ports["kube-controller-manager"]
        command = (
            str(self.binaries.kube_controller_manager),
            f"--kubeconfig={self.kubeconfig}",
            f"--authentication-kubeconfig={self.kubeconfig}",
            f"--authorization-kubeconfig={self.kubeconfig}",
            f"--bind-address={HOST}",
            f"--secure-port={port}",
            f"--cert-dir={self.data / 'kube-controller-manager'}",
            f"--controllers={','.join(_CONTROLLERS)}",
            "--leader-elect=false",
            "--profiling=false",
            f"--root-ca-file={self.certificates.authority}",
            f"--service-account-private-key-file={self.certificates.service_account_key}",
        )
        return ProcessSpec(
            name="kube-controller-manager",
            command=command,
            depends_on=("kube-apiserver",),
            ready=answers(f"https://{HOST}:{port}/healthz", tls=unverified_tls()),
        )
