"""Which engines there are, by the name a LocalModel and a node agent's offers use."""

from __future__ import annotations

from roadstead_worker.engines.base import Engine
from roadstead_worker.engines.llama_cpp import LlamaCpp


class UnknownEngine(Exception):
    """This worker has no engine of that name."""


def engine_named(name: str) -> Engine:
    """Raises ``UnknownEngine``, with the names there are."""
    match name:
        case "LlamaCpp":
            return LlamaCpp.found()
        case _:
            raise UnknownEngine(f"engine {name!r} is not one of this worker's: LlamaCpp")
