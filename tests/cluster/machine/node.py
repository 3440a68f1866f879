"""The machines `node-a` and `node-b`: containerd, kubelet, kube-proxy, and two helpers of ours."""

from __future__ import annotations

import json
import sys

import yaml

from tests.cluster.machine.certificates import Authority
from tests.cluster.machine.control_plane import MACHINERY_USER, SERVER
from tests.cluster.machine.debian import environment
from tests.cluster.machine.home import ClusterHome
from tests.cluster.machine.init import MachineSpec, Service
from tests.cluster.machine.network import (
    DNS_ADDRESS,
    POD_RANGE,
    node_address,
    node_pods,
)
from tests.cluster.machine.programs import Programs
from tests.cluster.machine.scratch_images import PAUSE

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


def node_spec(home: ClusterHome, programs: Programs, authority: Authority, node: str) -> MachineSpec:
    """Write the node's files, and say what its process 1 does."""
    kubeconfigs = {
        "kubelet": authority.kubeconfig(
            home.secrets / f"{node}.kubeconfig", server=SERVER, user=f"system:node:{node}", group="system:nodes"
        ),
        "kube-proxy": authority.kubeconfig(
            home.secrets / f"{node}-proxy.kubeconfig", server=SERVER, user="system:kube-proxy"
        ),
        "machinery": authority.kubeconfig(
            home.secrets / f"{node}-machinery.kubeconfig", server=SERVER, user=MACHINERY_USER, group="system:masters"
        ),
    }
    kubelet = (
        str(programs.node / "kubelet"),
        f"--config={_kubelet_configuration(home, authority, node)}",
        f"--kubeconfig={kubeconfigs['kubelet']}",
        f"--hostname-override={node}",
        f"--node-ip={node_address(node)}",
    )
    proxy = (
        str(programs.node / "kube-proxy"),
        f"--config={_proxy_configuration(home, str(kubeconfigs['kube-proxy']), node)}",
    )
    containerd = (
        f"{programs.debian}/usr/bin/containerd",
        f"--config={_containerd_configuration(home, programs, node)}",
    )

    def ours(module: str) -> tuple[str, ...]:
        return sys.executable, "-m", f"tests.cluster.machine.{module}", node, str(kubeconfigs["machinery"])

    commands = {
        "containerd": (containerd, ""),
        "kubelet": (kubelet, SERVER),
        "kube-proxy": (proxy, SERVER),
        "network-policies": (ours("network_policies"), SERVER),
        "local-volumes": (ours("local_volumes"), SERVER),
    }
    return MachineSpec(
        name=node,
        directory=home.machine(node),
        logs=home.logs,
        services=tuple(
            Service(name=f"{node}-{name}", command=command, environment=environment(programs.debian), after=after)
            for name, (command, after) in commands.items()
        ),
    )


def _containerd_configuration(home: ClusterHome, programs: Programs, node: str) -> str:
    networks = home.machine(node) / "networks"
    networks.mkdir(exist_ok=True)
    pods = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node_pods(node)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    (networks / "10-pods.conflist").write_text(json.dumps(pods, indent=2))
    path = home.machine(node) / "containerd.toml"
    # The plugin `opt` would make /opt/containerd on the host; the two snapshotters want file systems nobody has here.
    path.write_text(f"""version = 2
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{programs.debian}/usr/lib/cni"
conf_dir = "{networks}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{programs.debian}/usr/sbin/runc"
""")
    return str(path)


def _kubelet_configuration(home: ClusterHome, authority: Authority, node: str) -> str:
    serving = authority.server(f"{node}-kubelet", (node_address(node),), (node,))
    resolver = home.machine(node) / "resolv.conf"
    resolver.write_text("# A cluster for tests asks nobody outside it.\n")
    configuration = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.pair.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        # The disk is the host's: how full it is says nothing about this node, and images cannot be fetched again.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "maxOpenFiles": 20_000,
        "resolvConf": str(resolver),
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        # Its default is made on the host.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }
    path = home.machine(node) / "kubelet.yaml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return str(path)


def _proxy_configuration(home: ClusterHome, kubeconfig: str, node: str) -> str:
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": node,
        "mode": "nftables",
        # The tables of connections are sized by the host's settings, which are not ours to change.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    path = home.machine(node) / "kube-proxy.yaml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return str(path)
