"""Which images there are and what is in each: the builder's and the Containerfiles' common ground.

The Containerfiles in `images/` make the same images with an ordinary engine. What both must name is here once and a
test reads it out of the Containerfiles: packages, locks, user, variables, entrypoint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
USER: Final = 10001
"""Number of the user and the group that every process runs as: named by number, so that `runAsNonRoot` can check it."""
PACKAGES: Final = ROOT / "images/debian-packages.txt"
PYTHON_FOLDER: Final = "usr/local/lib/python3.11/dist-packages"
"""Where Debian's Python looks for what was not packaged by Debian."""
LLAMA_FOLDER: Final = "opt/llama.cpp/bin"
ENVIRONMENT: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - the only folder that a Pod with a read-only root can write
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image: what is installed on Debian and how it starts."""

    name: str
    title: str
    lock: Path
    """Wheels, by hash."""
    licences: str = "Apache-2.0"
    """SPDX expression for what is not Debian's."""
    own_code: bool = True
    """Whether our packages are in it."""
    llama_cpp: bool = False
    """Whether `llama-server` is in it."""
    script: Path | None = None
    """A single program of ours, in place of our packages."""
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    stop_signal: str = "SIGTERM"
    ports: tuple[int, ...] = ()

    @property
    def variables(self) -> dict[str, str]:
        return ENVIRONMENT | self.environment


POSTGRES_SCRIPT: Final = "usr/local/lib/roadstead/postgres.py"
IMAGES: Final = (
    Image(
        name="roadstead",
        title="Roadstead: operator, read API, gateway, agents, migrations and command line",
        lock=ROOT / "requirements/image-roadstead.txt",
        command=("roadstead", "--help"),
    ),
    Image(
        name="worker-cpu",
        title="Roadstead worker: Ray, replicas and llama.cpp for CPUs",
        lock=ROOT / "requirements/image-worker.txt",
        licences="Apache-2.0 AND MIT",
        llama_cpp=True,
        environment={
            "RAY_USAGE_STATS_ENABLED": "0",
            "ROADSTEAD_LLAMA_SERVER": f"/{LLAMA_FOLDER}/llama-server",
        },
        command=("python3", "-m", "roadstead_worker.ray", "--help"),
    ),
    Image(
        name="postgres",
        title="PostgreSQL for trying Roadstead out",
        lock=ROOT / "requirements/image-postgres.txt",
        licences="Apache-2.0 AND PostgreSQL",
        own_code=False,
        script=ROOT / "images/postgres/postgres.py",
        entrypoint=("python3", f"/{POSTGRES_SCRIPT}"),
        stop_signal="SIGINT",  # Postgres' fast shutdown: SIGTERM would wait for every client to leave
        ports=(5432,),
    ),
)


def project_version() -> str:
    """The version in `pyproject.toml`, which every image is tagged with."""
    found = re.search(r'^version = "([^"]+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError("pyproject.toml has no version")
    return found[1]


def debian_packages() -> tuple[str, ...]:
    """What is asked of Debian, without what that needs in turn."""
    lines = (line.partition("#")[0].strip() for line in PACKAGES.read_text().splitlines())
    return tuple(sorted(line for line in lines if line))
