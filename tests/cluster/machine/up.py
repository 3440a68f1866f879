"""Brings a cluster up from nothing, and takes it down to nothing.

Both begin by ending whatever carries the cluster's name, so neither has to know how far an earlier one came.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from roadstead.embedded.progress import Progress
from tests.cluster.machine import cgroups
from tests.cluster.machine.certificates import Authority
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.control_plane import control_plane_spec
from tests.cluster.machine.failures import ClusterError
from tests.cluster.machine.forwarder import start_forwarder
from tests.cluster.machine.home import NODES, ClusterHome
from tests.cluster.machine.machines import await_machine, init_pid, start_machine
from tests.cluster.machine.network import API_PORT, CONTROL_PLANE_ADDRESS, connect_node
from tests.cluster.machine.node import CONTAINERD_SOCKET, node_spec
from tests.cluster.machine.programs import Programs, ensure_programs_of_a_cluster
from tests.cluster.machine.scratch_images import write_own_images

_OBJECTS = Path(__file__).with_name("objects.yaml")
_READY_WITHIN_SECONDS = 120.0


def up(home: ClusterHome, progress: Progress) -> Cluster:
    """A new cluster, ready for pods; raises EmbeddedFleetError, and then nothing is left of it."""
    _demand_root()
    cgroups.demand_cgroups()
    programs = ensure_programs_of_a_cluster(progress)
    with home.locked():
        _end(home)
        try:
            return _start(home, programs, progress)
        except ClusterError:
            _keep_logs(home, progress)
            _end(home)
            raise
        except BaseException:
            _end(home)
            raise


def down(home: ClusterHome) -> None:
    """End every process of the cluster and remove all that it kept; fine when there is none."""
    _demand_root()
    with home.locked():
        _end(home)


def running(home: ClusterHome) -> Cluster | None:
    """The cluster that somebody brought up, if its control plane is alive."""
    if init_pid(home, "control-plane") is None or not home.kubeconfig.exists():
        return None
    return Cluster(home, ensure_programs_of_a_cluster(Progress()))


def _start(home: ClusterHome, programs: Programs, progress: Progress) -> Cluster:
    home.create()
    authority = Authority.new(home.secrets)
    start_machine(home, control_plane_spec(home, programs, authority))
    for node in NODES:
        start_machine(home, node_spec(home, programs, authority, node))
    control_plane_pid = await_machine(home, "control-plane")
    for node in NODES:
        connect_node(node, node_pid=await_machine(home, node), control_plane_pid=control_plane_pid)
    _, port = start_forwarder(home, control_plane_pid, address=CONTROL_PLANE_ADDRESS, port=API_PORT, survives=True)
    authority.kubeconfig(home.kubeconfig, server=f"https://127.0.0.1:{port}", user="admin", group="system:masters")
    cluster = Cluster(home, programs)
    progress.say("three machines run; waiting for the API server")
    images = write_own_images(
        home.root / "images", node_programs=programs.node, busybox=programs.debian / "bin" / "busybox"
    )
    _await("containerd on both nodes", lambda: all(_has_containerd(home, node) for node in NODES))
    for image in images:
        cluster.import_image(image)
    _await("the API server", lambda: cluster.kubectl("get", "--raw=/readyz", check=False).strip() == "ok")
    cluster.kubectl("apply", "--filename", str(_OBJECTS))
    progress.say("waiting for the nodes and for DNS")
    _await("both nodes", lambda: "NotFound" not in cluster.kubectl("get", "node", *NODES, check=False))
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=100s", *(f"node/{node}" for node in NODES))
    cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=100s")
    progress.say(f"the cluster is ready: export KUBECONFIG={home.kubeconfig}")
    return cluster


def _end(home: ClusterHome) -> None:
    home.demand_own()
    cgroups.remove(home.cgroup)
    shutil.rmtree(home.root, ignore_errors=True)
    if home.root.exists():
        # Mounts of a machine that has just died hold its folders for a moment.
        _await("the cluster's folder to go", lambda: _removed(home.root))


def _removed(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def _has_containerd(home: ClusterHome, node: str) -> bool:
    pid = init_pid(home, node)
    return pid is not None and Path(f"/proc/{pid}/root{CONTAINERD_SOCKET}").exists()


def _await(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise ClusterError(
                "ClusterNotReady",
                f"Waiting for {what} took longer than {_READY_WITHIN_SECONDS:.0f} s.",
                remedy="The logs say why; on a busy machine try again.",
            )
        time.sleep(0.1)


def _keep_logs(home: ClusterHome, progress: Progress) -> None:
    kept = home.root.with_name(f"{home.root.name}-logs")
    shutil.rmtree(kept, ignore_errors=True)
    subprocess.run(["cp", "-r", home.logs, kept], check=False)
    progress.say(f"the logs of what failed are in {kept}")


def _demand_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError(
            "NotRoot",
            "A cluster of real nodes needs root: for namespaces, cgroups and mounts of its own.",
            remedy="Run it as root.",
        )
