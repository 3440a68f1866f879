"""`roadstead logs`: the last lines of log files, and new ones as they come."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from roadstead.embedded.home import Home
from roadstead.embedded.running import log_tail

_POLL_SECONDS = 0.25


def log_files(home: Home, name: str | None) -> list[Path]:
    """The logs of one process or one model, or of all processes."""
    if name is None:
        return sorted(path for path in home.logs.glob("*.log") if path.stem != "audit")
    own = home.log(name)
    return [own] if own.exists() else _model_logs(home, name)


def print_tails(files: Sequence[Path], *, lines: int, stream: TextIO) -> None:
    """Print the end of each, with its name before if there are several."""
    for path in files:
        tail = log_tail(path, lines)
        if len(files) > 1:
            stream.write(f"==> {path.name} <==\n")
        stream.write(f"{tail}\n" if tail else "")
    stream.flush()


def follow_logs(home: Home, name: str | None, *, stream: TextIO, wait: Callable[[float], None] = time.sleep) -> None:
    """Print new lines for ever, also of logs that begin later or are begun anew."""
    offsets = {path: path.stat().st_size for path in log_files(home, name)}
    while True:
        files = log_files(home, name)
        for path in files:
            offsets[path] = _print_new(path, offsets.get(path, 0), labelled=len(files) > 1, stream=stream)
        stream.flush()
        wait(_POLL_SECONDS)


def _print_new(path: Path, offset: int, *, labelled: bool, stream: TextIO) -> int:
    try:
        with path.open("rb") as file:
            if path.stat().st_size < offset:
                offset = 0
            file.seek(offset)
            data = file.read()
    except OSError:
        return offset
    whole = data[: data.rfind(b"\n") + 1]
    stream.writelines(
        f"{path.stem}: {line}\n" if labelled else f"{line}\n" for line in whole.decode(errors="replace").splitlines()
    )
    return offset + len(whole)


def _model_logs(home: Home, model: str) -> list[Path]:
    """What Ray Serve says of a model's replicas, then what their engines say; NAME means that of every namespace.

    Both name their files by the slot, `NAMESPACE.MODEL.CONTENT.NODE`. Engines' logs stay when their slot is gone.
    """
    namespace, _, name = model.rpartition("/")
    anywhere = re.escape(namespace) if namespace else "[^.]+"
    of_model = re.compile(rf"(?:replica_)?{anywhere}\.{re.escape(name)}\.[0-9a-f]{{8}}\.")
    replicas = (home.runtime / "ray").glob("*/session_latest/logs/serve/replica_*.log")
    engines = home.data.glob("store-*/logs/*.log")
    return [path for found in (replicas, engines) for path in sorted(found) if of_model.match(path.name)]
