"""Keeps the network policies of one node in force: `python -m tests.cluster.machine.network_policies NODE KUBECONFIG`.

Why our own: kube-network-policies decides in user space over NFT_QUEUE, which this kernel lacks; rules of nftables are
the same semantics without a queue. A change bites within about a tenth of a second; connections that stand are kept.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path

from tests.cluster.machine.machinery_api import Changes, MachineryApi, Refused
from tests.cluster.machine.policy_rules import World, ruleset

_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
_PODS = "/api/v1/pods"
_NAMESPACES = "/api/v1/namespaces"


def main() -> None:
    node, kubeconfig = sys.argv[1], Path(sys.argv[2])
    api = MachineryApi(kubeconfig)
    changes = Changes(api, _POLICIES, _PODS, _NAMESPACES)
    in_force = ""
    while True:
        changes.wait(at_most_seconds=30)
        try:
            world = World.of(policies=api.items(_POLICIES), pods=api.items(_PODS), namespaces=api.items(_NAMESPACES))
        except (OSError, http.client.HTTPException, Refused) as error:
            print(f"not listed: {error}", flush=True)  # noqa: T201 - its log
            continue
        wanted = ruleset(world, node)
        if wanted != in_force:
            # A rule that nft refuses is a defect of ours: end loudly, and be started again.
            subprocess.run(["nft", "-f", "-"], input=wanted, text=True, check=True)
            in_force = wanted


if __name__ == "__main__":
    main()
