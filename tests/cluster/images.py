"""The images under test, as the repository's own builder makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster.machine.home import CHECKOUT

_OTHER: Final = "other"
_BUILD_SECONDS: Final = 1800


@dataclass(frozen=True, slots=True)
class Images:
    """What was built: names, digests and archives."""

    folder: Path
    listing: dict[str, dict[str, Any]]

    @property
    def roadstead(self) -> str:
        """Operator, gateway, agents: by digest."""
        return str(self.listing["roadstead"]["byDigest"])

    @property
    def worker(self) -> str:
        return str(self.listing["worker-cpu"]["byDigest"])

    @property
    def worker_digest(self) -> str:
        return str(self.listing["worker-cpu"]["digest"])

    @property
    def other_worker_digest(self) -> str:
        """An image of equal function and another digest."""
        return str(self.listing[f"worker-cpu-{_OTHER}"]["digest"])

    def archives(self) -> Iterator[Path]:
        for entry in self.listing.values():
            yield self.folder / entry["archive"]

    def values(self, *, worker: str | None = None) -> dict[str, Any]:
        """``image`` of the chart's values, with the worker image of this digest."""
        return {
            "roadstead": {"digest": self.listing["roadstead"]["digest"]},
            "worker": {"digest": worker or self.worker_digest},
            "postgres": {"digest": self.listing["postgres"]["digest"]},
        }


def built_images() -> Images:
    """Built now, from the cache where nothing changed; or those of the folder that ``ROADSTEAD_IMAGES`` names."""
    given = os.environ.get("ROADSTEAD_IMAGES")
    if given:
        return _listed(Path(given))
    builder = [sys.executable, "-m", "tools.images"]
    for arguments in ([], ["--only", "worker-cpu", "--variant", _OTHER]):
        subprocess.run([*builder, *arguments], cwd=CHECKOUT, check=True, timeout=_BUILD_SECONDS)
    return _listed(CHECKOUT / "build" / "images")


def _listed(folder: Path) -> Images:
    return Images(folder, json.loads((folder / "images.json").read_text()))
