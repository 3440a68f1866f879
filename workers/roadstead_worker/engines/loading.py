"""How llama.cpp should load a file on this machine: mapped, or read."""

from __future__ import annotations

from pathlib import Path

from roadstead_weights.errors import WeightsError
from roadstead_weights.gguf import read_facts
from roadstead_weights.repacking import better_read
from roadstead_worker.agent.hardware import read_hardware


def better_mapped(model: Path) -> bool:
    """Mapped unless much of it would then be held twice. Blocks for a look at the file's header.

    A file that cannot be understood is mapped: the engine says best what is wrong with it.
    """
    try:
        with model.open("rb") as file:
            facts = read_facts(file, total=model.stat().st_size, name=model.name)
    except (OSError, WeightsError):
        return True
    return not better_read(facts, read_hardware().isa)
