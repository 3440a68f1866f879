"""Proof that the run of the contract tests beside this one was on the oldest Kubernetes and not on the newest."""

from __future__ import annotations

import json
import os

import pytest

from roadstead.embedded.binaries import OLDEST_MINOR
from tests.fixtures.control_plane import RunningControlPlane, control_plane
from tests.kubernetes_oldest.programs import OLDEST

__all__ = ["control_plane"]

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        os.environ.get("KUBEBUILDER_ASSETS") != str(OLDEST.cached), reason="make test-kubernetes-oldest runs it"
    ),
]


def test_the_api_server_and_kubectl_are_of_the_oldest_minor(control_plane: RunningControlPlane) -> None:
    versions = json.loads(control_plane.kubectl("version", "-o", "json"))
    minors = {versions[side]["minor"] for side in ("serverVersion", "clientVersion")}

    assert minors == {str(OLDEST_MINOR)}
