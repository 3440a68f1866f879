"""What is behind a source in a simulated fleet: the file's name says it, so that nothing has to be agreed on.

``file:///models/assistant-q4-300MiB.gguf`` is 300 MiB of weights. A name with ``missing`` in it is not there; one
without a size is small.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from roadstead.domain.release import Artifact
from tests.fixtures.memory_fleet import artifact

SMALL_MEBIBYTES: Final = 64
_SIZE: Final = re.compile(r"-(\d+)MiB\b")


def source_of(name: str, *, mebibytes: int = SMALL_MEBIBYTES) -> str:
    """A source of that size on every node."""
    return f"file:///models/{name}-{mebibytes}MiB.gguf"


def published(name: str, *, mebibytes: int = SMALL_MEBIBYTES) -> str:
    """The same behind an address: one node is asked for all."""
    return f"https://models.example/{name}-{mebibytes}MiB.gguf"


@lru_cache(maxsize=65_536)
def found_behind(source: str) -> Artifact | None:
    """The artifact, or None where there is none."""
    if "missing" in source:
        return None
    size = _SIZE.search(source)
    return artifact(source, mebibytes=int(size[1]) if size else SMALL_MEBIBYTES)
