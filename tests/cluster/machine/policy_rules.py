"""NetworkPolicies as nftables rules of one node: a pure function from what the API server holds.

As the specification has it: a pod that some policy selects for a direction is isolated in it, and only what the union
of these policies allows may pass; both ends must allow. Replies pass, and so does what the node itself sends to its
pods (probes): it is not forwarded. Pods in the host's network are neither isolated nor selected.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
TABLE = "network_policies"
_NOBODY = "0.0.0.0"
"""Makes an expression that nothing meets."""
_FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Pod:
    """What rules need of a pod."""

    namespace: str
    address: str
    node: str
    labels: Mapping[str, str]
    named_ports: Mapping[tuple[str, str], int]
    """Number by name and protocol (`tcp`)."""


@dataclass(frozen=True, slots=True)
class World:
    """What rules are made from."""

    policies: Sequence[Object]
    pods: Sequence[Pod]
    namespace_labels: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, *, policies: Sequence[Object], pods: Sequence[Object], namespaces: Sequence[Object]) -> World:
        return cls(
            policies=policies,
            pods=[_pod(pod) for pod in pods if _counts(pod)],
            namespace_labels={each["metadata"]["name"]: each["metadata"].get("labels", {}) for each in namespaces},
        )


def ruleset(world: World, node: str) -> str:
    """What `nft -f -` is given: the whole table of this node, replaced in one step."""
    chains: list[str] = []
    outgoing: list[str] = []
    incoming: list[str] = []
    for pod in sorted((pod for pod in world.pods if pod.node == node), key=lambda pod: pod.address):
        for direction, jumps in (("Egress", outgoing), ("Ingress", incoming)):
            policies = [policy for policy in world.policies if _isolates(policy, pod, direction)]
            if policies:
                name = f"{direction.lower()}_{pod.address.replace('.', '_')}"
                own = "saddr" if direction == "Egress" else "daddr"
                jumps.append(f"    ip {own} {pod.address} jump {name}")
                chains += _chain(name, world, pod, policies, direction)
    passing = "    ct state established,related accept"
    lines = [f"table ip {TABLE} {{}}", f"delete table ip {TABLE}", f"table ip {TABLE} {{", *chains]
    lines += ["  chain forward {", "    type filter hook forward priority filter; policy accept;", passing]
    lines += [*outgoing, *incoming, "  }"]
    # To the node itself nothing is forwarded, but leaving the pod it is.
    lines += [
        "  chain input {",
        "    type filter hook input priority filter; policy accept;",
        passing,
        *outgoing,
        "  }",
    ]
    return "\n".join([*lines, "}", ""])


def _chain(name: str, world: World, pod: Pod, policies: Sequence[Object], direction: str) -> list[str]:
    other = "daddr" if direction == "Egress" else "saddr"
    lines = [f"  chain {name} {{", f"    ip {other} {pod.address} return"]
    for policy in policies:
        for rule in policy["spec"].get(direction.lower()) or []:
            allowed = _matches(rule, world, pod, policy["metadata"]["namespace"], direction)
            lines += [f"    {match} return" for match in allowed]
    return [*lines, "    drop", "  }"]


def _matches(rule: Object, world: World, pod: Pod, namespace: str, direction: str) -> Iterator[str]:
    """The expressions of one rule of a policy: each peer with each port."""
    ports = rule.get("ports") or [{}]
    peers = rule.get("from" if direction == "Ingress" else "to")
    side = "ip saddr" if direction == "Ingress" else "ip daddr"
    if not peers:
        peers_of: list[tuple[str, Sequence[Pod]]] = [("", world.pods)]
    else:
        peers_of = [_peer(peer, world, namespace, side) for peer in peers]
    for expression, selected in peers_of:
        for port in ports:
            if isinstance(port.get("port"), str):
                yield from _named(port, pod, expression, selected, direction)
            elif expression is not None:
                yield f"{expression} {_port(port)}".strip()


def _peer(peer: Object, world: World, namespace: str, side: str) -> tuple[str, Sequence[Pod]]:
    block = peer.get("ipBlock")
    if block is not None:
        if ":" in block["cidr"]:
            return f"{side} {_NOBODY}", ()  # pods here have no address of IPv6
        expression = f"{side} {_canonical(block['cidr'])}"
        if block.get("except"):
            expression += f" {side} != {{ {', '.join(map(_canonical, block['except']))} }}"
        return expression, ()
    selected = [pod for pod in world.pods if _selected(pod, peer, world, namespace)]
    addresses = sorted(pod.address for pod in selected)
    return f"{side} {{ {', '.join(addresses)} }}" if addresses else f"{side} {_NOBODY}", selected


def _selected(pod: Pod, peer: Object, world: World, namespace: str) -> bool:
    if "namespaceSelector" in peer:
        if not meets(peer["namespaceSelector"], world.namespace_labels.get(pod.namespace, {})):
            return False
    elif pod.namespace != namespace:
        return False
    return meets(peer.get("podSelector", {}), pod.labels)


def _port(port: Object) -> str:
    if not port:
        return ""
    protocol = port.get("protocol", "TCP").lower()
    if "port" not in port:
        return f"meta l4proto {protocol}"
    last = f"-{port['endPort']}" if port.get("endPort") else ""
    return f"{protocol} dport {port['port']}{last}"


def _named(port: Object, pod: Pod, expression: str, peers: Sequence[Pod], direction: str) -> Iterator[str]:
    """A port's name means what the pod that is spoken to calls so."""
    protocol = port.get("protocol", "TCP").lower()
    key = (port["port"], protocol)
    if direction == "Ingress":
        if key in pod.named_ports:
            yield f"{expression} {protocol} dport {pod.named_ports[key]}".strip()
        return
    for peer in peers:
        if key in peer.named_ports:
            yield f"ip daddr {peer.address} {protocol} dport {peer.named_ports[key]}"


def _isolates(policy: Object, pod: Pod, direction: str) -> bool:
    spec = policy["spec"]
    return (
        policy["metadata"]["namespace"] == pod.namespace
        # The API server has written the default of `policyTypes` in.
        and direction in spec["policyTypes"]
        and meets(spec.get("podSelector", {}), pod.labels)
    )


def meets(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether labels meet a label selector; an empty one is met by all."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_meets_requirement(each, labels) for each in selector.get("matchExpressions") or [])


def _meets_requirement(requirement: Object, labels: Mapping[str, str]) -> bool:
    key, values = requirement["key"], requirement.get("values") or []
    match requirement["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def _canonical(cidr: str) -> str:
    return str(ipaddress.ip_network(cidr, strict=False))


def _counts(pod: Object) -> bool:
    spec, status = pod["spec"], pod.get("status", {})
    return bool(status.get("podIP")) and not spec.get("hostNetwork") and status.get("phase") not in _FINISHED


def _pod(pod: Object) -> Pod:
    # Sidecars (restartable init containers) have ports too.
    containers = [*pod["spec"].get("containers", []), *pod["spec"].get("initContainers", [])]
    ports = [port for container in containers for port in container.get("ports") or []]
    return Pod(
        namespace=pod["metadata"]["namespace"],
        address=pod["status"]["podIP"],
        node=pod["spec"].get("nodeName", ""),
        labels=pod["metadata"].get("labels", {}),
        named_ports={
            (port["name"], port.get("protocol", "TCP").lower()): port["containerPort"]
            for port in ports
            if "name" in port
        },
    )
