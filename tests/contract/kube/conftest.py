"""A real API server that knows our kinds, and a namespace of its own for each test."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from roadstead.adapters.kube.api import Api, connected
from roadstead.adapters.kube.crd import custom_resource_definitions
from roadstead.adapters.kube.settings import KubeSettings
from tests.fixtures.control_plane import RunningControlPlane, control_plane

__all__ = ["control_plane"]

_COUNTER = itertools.count(1)


@pytest.fixture(scope="session")
def plane(control_plane: RunningControlPlane) -> RunningControlPlane:
    """The API server after our definitions were accepted."""
    kinds = {"apiVersion": "v1", "kind": "List", "items": list(custom_resource_definitions())}
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(kinds))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    deadline = time.monotonic() + 30
    while "DESCRIPTION" not in control_plane.kubectl("explain", "localmodel", check=False):
        assert time.monotonic() < deadline, "the API server does not publish the schema of our kinds"
    return control_plane


@pytest.fixture
def namespace(plane: RunningControlPlane) -> str:
    name = f"test-{next(_COUNTER)}"
    plane.kubectl("create", "namespace", name)
    return name


@pytest.fixture
def settings(plane: RunningControlPlane, namespace: str) -> KubeSettings:
    """Quick to try again, and the product lives in the test's own namespace."""
    return KubeSettings(kubeconfig=plane.kubeconfig, namespace=namespace, retry_seconds=(0.05, 0.5))


@pytest.fixture
async def api(settings: KubeSettings) -> AsyncIterator[Api]:
    async with connected(settings) as door:
        yield door


def local_model(namespace: str, name: str = "assistant", **spec: object) -> dict[str, Any]:
    """A LocalModel that nobody objects to."""
    return {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "LocalModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"variants": [{"name": "q4", "source": "file:///models/q4.gguf"}]} | spec,
    }
