"""A running cluster as tests and people use it."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.machine import machines
from tests.cluster.machine.debian import environment
from tests.cluster.machine.failures import ClusterError
from tests.cluster.machine.forwarder import start_forwarder
from tests.cluster.machine.home import NODES, ClusterHome
from tests.cluster.machine.node import CONTAINERD_SOCKET
from tests.cluster.machine.programs import Programs

_COMMAND_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Two nodes, `node-a` and `node-b`, and what one does with them from the host."""

    home: ClusterHome
    programs: Programs

    @property
    def kubeconfig(self) -> Path:
        """The administrator's; it works on the host."""
        return self.home.kubeconfig

    @property
    def audit_log(self) -> Path:
        """Every request but those of the cluster's own machinery, one JSON object a line."""
        return self.home.audit_log

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout_seconds: float = _COMMAND_SECONDS
    ) -> str:
        """Run kubectl as administrator; its output, and with `check=False` also its errors."""
        program = self.programs.control_plane.kubectl
        return self._run([str(program), *arguments], stdin=stdin, check=check, timeout_seconds=timeout_seconds)

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`, parsed."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found

    def helm(self, *arguments: str, check: bool = True, timeout_seconds: float = 900.0) -> str:
        """Run Helm as administrator; its output, and with `check=False` also its errors."""
        return self._run(
            [str(self.programs.helm), *arguments], stdin=None, check=check, timeout_seconds=timeout_seconds
        )

    def import_image(self, archive: Path, nodes: Sequence[str] = NODES) -> None:
        """Give every node the images of an OCI layout in a tar file, under the names its index says."""
        command = [f"{self.programs.debian}/usr/bin/ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io"]
        command += ["images", "import", "--all-platforms", str(archive.resolve())]
        with ThreadPoolExecutor(len(nodes)) as both:
            for answer in both.map(lambda node: self.in_node(node, command, timeout_seconds=600), nodes):
                if answer.returncode:
                    raise ClusterError(
                        "ImageRefused",
                        f"containerd did not take {archive}.",
                        remedy="Its words are below; what it takes is an OCI layout in an uncompressed tar file.",
                        log_tail=answer.stdout + answer.stderr,
                    )

    @contextmanager
    def forward(self, target: str, port: int, *, node: str = NODES[0]) -> Iterator[int]:
        """A port of the host's 127.0.0.1 that leads to a pod's or Service's port, as `node` reaches it.

        `target` is an IP address, or `NAMESPACE/SERVICE`. What goes to a pod of the same node comes from the node
        itself, which no NetworkPolicy holds back; pods of the other node see the address of `node`.
        """
        pid = machines.init_pid(self.home, node)
        if pid is None:
            raise ClusterError("MachineDead", f"The machine {node} does not run.", remedy="Forward by the other node.")
        process, local = start_forwarder(self.home, pid, address=self._address(target), port=port)
        try:
            yield local
        finally:
            process.terminate()
            process.wait(10)

    def in_node(
        self, node: str, command: Sequence[str], *, timeout_seconds: float = _COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root of a node (or of `control-plane`); never raises for its exit status."""
        node_environment = environment(self.programs.debian)
        return machines.run_in(self.home, node, command, timeout_seconds=timeout_seconds, environment=node_environment)

    def kill_node(self, node: str) -> None:
        """A node's sudden death; Kubernetes notices by its silence, after 50 s."""
        machines.kill_machine(self.home, node)

    def _address(self, target: str) -> str:
        try:
            return str(ipaddress.ip_address(target))
        except ValueError:
            namespace, _, service = target.partition("/")
            return self.kubectl("-n", namespace, "get", "service", service, "--output=jsonpath={.spec.clusterIP}")

    def _run(self, command: list[str], *, stdin: str | None, check: bool, timeout_seconds: float) -> str:
        answer = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
            env={
                **os.environ,
                "KUBECONFIG": str(self.kubeconfig),
                # A home of its own: both keep what they discovered of a server, by its address.
                "HOME": str(self.home.root / "client"),
            },
        )
        if not check:
            return answer.stdout + answer.stderr
        assert answer.returncode == 0, f"{' '.join(command)}\n{answer.stdout}{answer.stderr}"
        return answer.stdout
