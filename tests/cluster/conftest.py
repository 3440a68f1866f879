"""A real cluster for a session: the one `ROADSTEAD_CLUSTER_HOME` names, if it runs, else one of the session's own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadstead.embedded.progress import Progress
from tests.cluster.images import Images, built_images
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.home import ClusterHome
from tests.cluster.machine.up import down, running, up


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two Ready nodes, DNS, and nothing of ours in it."""
    if os.environ.get("ROADSTEAD_CLUSTER_HOME"):
        home = ClusterHome.from_environment()
        found = running(home)
        if found is not None:
            yield found
            return
    else:
        home = ClusterHome(Path(tempfile.mkdtemp(prefix="rs-cluster-")))
    try:
        yield up(home, Progress())
    finally:
        down(home)


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    """Built, and known to both nodes."""
    built = built_images()
    for archive in built.archives():
        cluster.import_image(archive)
    return built
