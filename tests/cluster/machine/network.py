"""Addresses of a cluster, and the commands that make its network.

A bridge in the control plane's network namespace joins the nodes; pods of a node have a range of their own, which the
others reach by a static route. Two clusters may use the same addresses: each has its own namespaces.
"""

from __future__ import annotations

import subprocess

from tests.cluster.machine.home import NODES
from tests.cluster.machine.machines import entering

CONTROL_PLANE_ADDRESS = "10.10.0.1"
API_PORT = 6443
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"

Command = tuple[str, ...]


def node_address(node: str) -> str:
    return f"10.10.0.{NODES.index(node) + 2}"


def node_pods(node: str) -> str:
    """The range of the pods of a node."""
    return f"10.244.{NODES.index(node) + 1}.0/24"


def control_plane_setup() -> tuple[Command, ...]:
    """What its process 1 does first."""
    return (
        ("ip", "link", "add", "br0", "type", "bridge"),
        ("ip", "addr", "add", f"{CONTROL_PLANE_ADDRESS}/24", "dev", "br0"),
        ("ip", "link", "set", "br0", "up"),
        # A server finds the address it is reached at by its default route.
        ("ip", "route", "add", "default", "dev", "br0"),
        # The API server speaks to pods too: it is the proxy of `kubectl get --raw`, and calls webhooks.
        *(("ip", "route", "add", node_pods(node), "via", node_address(node)) for node in NODES),
    )


def connect_node(node: str, *, node_pid: int, control_plane_pid: int) -> None:
    """Plug the node's one cable in and tell it the way to the others."""
    port = f"to-{node}"
    beside = next(other for other in NODES if other != node)
    at_switch = entering(control_plane_pid, "--net")
    at_node = entering(node_pid, "--net")
    commands = (
        (*at_switch, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(node_pid)),
        (*at_switch, "ip", "link", "set", port, "master", "br0", "up"),
        (*at_node, "ip", "addr", "add", f"{node_address(node)}/24", "dev", "eth0"),
        (*at_node, "ip", "link", "set", "eth0", "up"),
        (*at_node, "ip", "route", "add", "default", "via", CONTROL_PLANE_ADDRESS),
        (*at_node, "ip", "route", "add", node_pods(beside), "via", node_address(beside)),
    )
    for command in commands:
        subprocess.run(command, check=True)
