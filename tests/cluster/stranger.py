"""A Pod of another namespace that tries every door of the fleet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from tests.cluster.product import NAMESPACE, Product

_NAMESPACE: Final = "stranger"
_PROGRAM: Final = """
import json, socket, sys

def opens(host, port):
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return False
    return True

print(json.dumps({name: opens(*door) for name, door in json.loads(sys.argv[1]).items()}))
"""


def doors_of(product: Product) -> dict[str, tuple[str, int]]:
    """Every port of the contract, and a replica's as the gateways know it."""
    address = {
        component: next(iter(product.pods(component).values()))["status"]["podIP"]
        for component in ("operator", "gateway", "head", "agent", "worker", "postgres")
    }
    routes = product.cluster.get("-n", NAMESPACE, "modelroutes")["items"]
    replica = next(one for route in routes for slot in route["spec"]["slots"] for one in slot["addresses"])
    host, _, port = replica.rpartition(":")
    return {
        "gateway": (address["gateway"], 8080),
        "gateway's internal door": (address["gateway"], 8081),
        "operator's metrics": (address["operator"], 8090),
        "agent": (address["agent"], 7441),
        "head agent": (address["head"], 7442),
        "Ray's GCS": (address["head"], 6379),
        "Ray's dashboard": (address["head"], 8265),
        "raylet": (address["worker"], 52365),
        "replica": (host, int(port)),
        "postgres": (address["postgres"], 5432),
    }


def opened_by_a_stranger(product: Product, doors: Mapping[str, tuple[str, int]]) -> set[str]:
    """Names of the doors that take a connection from another namespace."""
    product.cluster.kubectl("create", "namespace", _NAMESPACE, check=False)
    said = product.cluster.kubectl(
        *("-n", _NAMESPACE, "run", "stranger", f"--image={product.images.roadstead}", "--restart=Never"),
        *("--attach", "--rm", "--quiet", "--pod-running-timeout=2m", "--command", "--"),
        *("python3", "-c", _PROGRAM, json.dumps(doors)),
    )
    opened: dict[str, bool] = json.loads(said.strip().splitlines()[-1])
    return {name for name, is_open in opened.items() if is_open}
