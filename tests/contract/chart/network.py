"""NetworkPolicies read as Kubernetes reads them: who may open a connection to whom, on which port.

What is left out, because the chart uses none of it: named ports, and peers of other namespaces by their labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a connection."""

    name: str
    labels: Mapping[str, str]
    ours: bool = True
    """In the release's namespace."""
    address: str = "10.244.7.7"


def may_connect(policies: Sequence[Object], source: Party, target: Party, port: int, protocol: str = "TCP") -> bool:
    """Whether the policies of the release's namespace let it through, at both ends."""

    def lets_through(here: Party, there: Party, *, way: str, peers: str) -> bool:
        applying = [
            policy["spec"]
            for policy in policies
            if here.ours and way.title() in policy["spec"]["policyTypes"] and _selects(policy["spec"], here)
        ]
        rules = [rule for spec in applying for rule in spec.get(way) or ()]
        return not applying or any(
            _is_peer(rule.get(peers) or (), there) and _has_port(rule.get("ports") or (), port, protocol)
            for rule in rules
        )

    leaves = lets_through(source, target, way="egress", peers="to")
    return leaves and lets_through(target, source, way="ingress", peers="from")


def _selects(holder: Object, party: Party) -> bool:
    """Whether its ``podSelector`` does."""
    selector = holder["podSelector"]
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if party.labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(party.labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _is_peer(peers: Sequence[Object], party: Party) -> bool:
    return not peers or any(_matches(peer, party) for peer in peers)


def _matches(peer: Object, party: Party) -> bool:
    if "ipBlock" in peer:
        address = ip_address(party.address)
        inside = address in ip_network(peer["ipBlock"]["cidr"])
        return inside and not any(address in ip_network(block) for block in peer["ipBlock"].get("except", ()))
    assert "namespaceSelector" not in peer
    return party.ours and _selects(peer, party)


def _has_port(ports: Sequence[Object], port: int, protocol: str) -> bool:
    return not ports or any(
        each["protocol"] == protocol and each["port"] <= port <= each.get("endPort", each["port"]) for each in ports
    )
