"""The machine `control-plane`: etcd, kube-apiserver, controller-manager and scheduler."""

from __future__ import annotations

import json

from tests.cluster.machine.certificates import Authority, Pair, service_account_key
from tests.cluster.machine.debian import environment
from tests.cluster.machine.home import ClusterHome
from tests.cluster.machine.init import MachineSpec, Service
from tests.cluster.machine.network import (
    API_PORT,
    API_SERVICE_ADDRESS,
    CONTROL_PLANE_ADDRESS,
    POD_RANGE,
    SERVICE_RANGE,
    control_plane_setup,
)
from tests.cluster.machine.programs import Programs

SERVER = f"https://{CONTROL_PLANE_ADDRESS}:{API_PORT}"
MACHINERY_USER = "cluster-machinery"
"""The cluster's own helpers; the audit log leaves them out."""
_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"


def control_plane_spec(home: ClusterHome, programs: Programs, authority: Authority) -> MachineSpec:
    """Write its files, and say what its process 1 does."""
    signing_key = str(service_account_key(home.secrets))
    commands = {
        "etcd": _etcd(home, programs),
        "kube-apiserver": _apiserver(home, programs, authority, signing_key),
        "kube-controller-manager": _controller_manager(home, programs, authority, signing_key),
        "kube-scheduler": _scheduler(home, programs, authority),
    }
    after = dict.fromkeys(commands, SERVER) | {
        "etcd": "",
        "kube-apiserver": "127.0.0.1:2379",
    }
    services = (
        Service(name=name, command=command, environment=environment(programs.debian), after=after[name])
        for name, command in commands.items()
    )
    return MachineSpec(
        name="control-plane",
        directory=home.machine("control-plane"),
        logs=home.logs,
        services=tuple(services),
        setup=control_plane_setup(),
    )


def _etcd(home: ClusterHome, programs: Programs) -> tuple[str, ...]:
    return (
        str(programs.control_plane.etcd),
        "--name=etcd",
        f"--data-dir={home.machine('control-plane') / 'etcd'}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={_ETCD_PEER}",
        f"--initial-advertise-peer-urls={_ETCD_PEER}",
        f"--initial-cluster=etcd={_ETCD_PEER}",
        "--log-level=warn",
        # A cluster for tests does not survive its host.
        "--unsafe-no-fsync",
    )


def _apiserver(home: ClusterHome, programs: Programs, authority: Authority, signing_key: str) -> tuple[str, ...]:
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    addresses = (CONTROL_PLANE_ADDRESS, API_SERVICE_ADDRESS, "127.0.0.1")
    server = authority.server("kube-apiserver", addresses, names)
    to_kubelets = authority.client("kube-apiserver-kubelet-client", "system:masters")
    front_authority = Authority.new(home.secrets, "front-proxy-ca")
    front = front_authority.client("front-proxy-client")
    return (
        str(programs.control_plane.kube_apiserver),
        f"--etcd-servers={_ETCD}",
        f"--secure-port={API_PORT}",
        f"--advertise-address={CONTROL_PLANE_ADDRESS}",
        *_tls(server),
        f"--client-ca-file={authority.pair.certificate}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={signing_key}",
        f"--service-account-signing-key-file={signing_key}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        # PodSecurity is among those that are on by default.
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-certificate-authority={authority.pair.certificate}",
        f"--kubelet-client-certificate={to_kubelets.certificate}",
        f"--kubelet-client-key={to_kubelets.key}",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        f"--requestheader-client-ca-file={front_authority.pair.certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={front.certificate}",
        f"--proxy-client-key-file={front.key}",
        "--enable-aggregator-routing=true",
        "--profiling=false",
        f"--audit-policy-file={_audit_policy(home)}",
        f"--audit-log-path={home.audit_log}",
        # One file to read, however long the tests run.
        "--audit-log-maxsize=4096",
    )


def _audit_policy(home: ClusterHome) -> str:
    path = home.machine("control-plane") / "audit-policy.json"
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "None", "users": [MACHINERY_USER]}, {"level": "Metadata"}],
    }
    path.write_text(json.dumps(policy, indent=2) + "\n")
    return str(path)


def _controller_manager(
    home: ClusterHome, programs: Programs, authority: Authority, signing_key: str
) -> tuple[str, ...]:
    kubeconfig = authority.kubeconfig(
        home.secrets / "controller-manager.kubeconfig", server=SERVER, user="system:kube-controller-manager"
    )
    return (
        str(programs.control_plane.kube_controller_manager),
        *_kubeconfigs(str(kubeconfig)),
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={signing_key}",
        f"--root-ca-file={authority.pair.certificate}",
        f"--cluster-signing-cert-file={authority.pair.certificate}",
        f"--cluster-signing-key-file={authority.pair.key}",
        f"--cluster-cidr={POD_RANGE}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--profiling=false",
    )


def _scheduler(home: ClusterHome, programs: Programs, authority: Authority) -> tuple[str, ...]:
    kubeconfig = authority.kubeconfig(
        home.secrets / "scheduler.kubeconfig", server=SERVER, user="system:kube-scheduler"
    )
    return (
        str(programs.node / "kube-scheduler"),
        *_kubeconfigs(str(kubeconfig)),
        "--leader-elect=false",
        "--profiling=false",
    )


def _kubeconfigs(path: str) -> tuple[str, ...]:
    return (
        f"--kubeconfig={path}",
        f"--authentication-kubeconfig={path}",
        f"--authorization-kubeconfig={path}",
        "--bind-address=127.0.0.1",
        "--cert-dir=/run/kubernetes",
    )


def _tls(pair: Pair) -> tuple[str, ...]:
    return f"--tls-cert-file={pair.certificate}", f"--tls-private-key-file={pair.key}"
