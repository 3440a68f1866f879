"""A gateway and a real API server: what is applied is routed, what is deleted is not, by a client certificate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.fake_replica import FakeReplica
from tests.fixtures.fake_route_api import route_object, slot
from tests.fixtures.gateway import running_gateway
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract


async def test_routes_follow_the_api_server(tmp_path: Path, plane: RunningControlPlane) -> None:
    async with (
        FakeReplica() as replica,
        running_gateway(tmp_path, kubeconfig=plane.kubeconfig, namespace="default") as gateway,
    ):
        await until(lambda: gateway.gateway.tallies().synced, "the watch stands")
        route = route_object("gw-tiny", 0, slots=[slot("gw-s1", replica.address)])
        del route["metadata"]["resourceVersion"]
        plane.kubectl("apply", "-n", "default", "-f", "-", stdin=json.dumps(route))
        await until(lambda: gateway.gateway.table.find("team/gw-tiny"), "the route")
        async with gateway.post({"model": "gw-tiny"}) as answer:
            assert answer.status == 200
        version = plane.kubectl(
            "get", "modelroute", "gw-tiny", "-n", "default", "-o=jsonpath={.metadata.resourceVersion}"
        )
        (seen,) = gateway.gateway.tallies().routes
        assert (seen.name, seen.resource_version) == ("gw-tiny", version)
        plane.kubectl("delete", "modelroute", "gw-tiny", "-n", "default")
        await until(lambda: gateway.gateway.table.find("team/gw-tiny") is None, "the route is gone")
        async with gateway.post({"model": "gw-tiny"}) as answer:
            assert answer.status == 404
