"""Where the doors are in a cluster: Pods of our own namespace, by component, node, cell and address.

A Pod's address comes and goes with it. What must not come and go is the door: an agent whose Pod is being replaced is
still the agent of its node, and what it said last stays what is known of it, ageing. So a door that has no address at
the moment is listed without one, as long as its node or its cell is there. Gateways are different: one that is gone
holds no requests, and is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from roadstead.adapters.directory import AgentDoor, CellDoor, GatewayDoor, Listing
from roadstead.adapters.kube.owned import Pod

AGENT_PORT: Final = 7441
HEAD_AGENT_PORT: Final = 7442
GATEWAY_PORT: Final = 8081
_AGENT, _HEAD, _GATEWAY, _WORKER = "agent", "head", "gateway", "worker"
_LATE: Final = timedelta(seconds=30)
"""How long after its grace period a Pod may still be ending; then its machine is lost, and it with it."""


class PodDirectory:
    """Answers to :class:`Directory`.

    ``nodes`` are the Nodes that the API server has, ``cells`` those of the chart with the addresses of their Ray heads.
    """

    def __init__(
        self,
        *,
        pods: Callable[[], Iterable[Pod]],
        nodes: Callable[[], Collection[str]],
        cells: Iterable[tuple[str, str]],
        clock: Callable[[], datetime],
    ) -> None:
        self._pods = pods
        self._nodes = nodes
        self._cells = {name: address.rpartition(":")[0] for name, address in cells}
        self._clock = clock
        self._agents: frozenset[str] = frozenset()
        """Nodes that have had an agent's Pod."""

    def listing(self) -> Listing:
        """All doors; the address is empty where there is none at the moment."""
        pods = sorted(self._open(), key=lambda pod: (pod.deleted_by is None, pod.name))
        # In that order, a Pod that stays wins over one that ends.
        agents = {pod.node: _url(pod.ip, AGENT_PORT) for pod in pods if pod.component == _AGENT and pod.node}
        heads = {pod.cell: _url(pod.ip, HEAD_AGENT_PORT) for pod in pods if pod.component == _HEAD and pod.cell}
        self._agents = (self._agents & frozenset(self._nodes())) | frozenset(agents)
        return Listing(
            agents={node: AgentDoor(node=node, url=agents.get(node, "")) for node in sorted(self._agents)},
            cells={
                name: CellDoor(name=name, url=heads.get(name, ""), host=host, nodes=_workers_of(name, pods))
                for name, host in sorted(self._cells.items())
            },
            gateways={
                pod.name: GatewayDoor(name=pod.name, url=_url(pod.ip, GATEWAY_PORT))
                for pod in pods
                if pod.component == _GATEWAY
            },
        )

    def _open(self) -> Iterator[Pod]:
        """Pods whose door may answer.

        One that is being deleted does until its containers end: an agent that drains still holds its node's leases, a
        gateway that drains still has requests under way.
        """
        now = self._clock()
        for pod in self._pods():
            late = pod.deleted_by is not None and now > pod.deleted_by + _LATE
            if pod.ip and not pod.finished and not late:
                yield pod


def _workers_of(cell: str, pods: Iterable[Pod]) -> frozenset[str]:
    return frozenset(pod.node for pod in pods if pod.component == _WORKER and pod.cell == cell)


def _url(address: str, port: int) -> str:
    host = f"[{address}]" if ip_address(address).version == 6 else address
    return f"http://{host}:{port}"
