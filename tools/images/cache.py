"""What was built once is kept under the name of what it was built from.

A step's key is a hash of all its inputs, the source of the step among them, so nothing has to be invalidated: other
inputs are another key. Results appear whole (made aside, then renamed).
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from roadstead.embedded.go_programs import cache_directory
from tools.images.layers import Blob, source_date_epoch


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of results."""

    root: Path

    @classmethod
    def default(cls) -> Cache:
        """`ROADSTEAD_CACHE`, else `~/.cache/roadstead`."""
        return cls(cache_directory() / "images")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One builder at a time; another one waits."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def folder(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """The folder that `make` fills, made only if no earlier run has."""
        place = self.root / f"{name}-{key}"
        if not place.is_dir():
            with self.scratch() as partial:
                filled = partial / "result"
                filled.mkdir()
                make(filled)
                filled.rename(place)
        os.utime(place)  # so that `prune` knows what is in use
        return place

    def prune(self, *, days: int = 14) -> None:
        """Remove what no build has used for so long."""
        for folder in self.root.iterdir():
            if folder.is_dir() and time.time() - folder.stat().st_mtime > days * 86_400:
                shutil.rmtree(folder)

    def layer(self, name: str, key: str, make: Callable[[Path], Blob]) -> Blob:
        """The archive that `make` writes at the path it is given."""

        def fill(folder: Path) -> None:
            blob = make(folder / "layer.tar")
            facts = {"digest": blob.digest, "size": blob.size}
            (folder / "facts.json").write_text(json.dumps(facts))

        folder = self.folder(f"layer-{name}", key_of(key, str(source_date_epoch())), fill)
        facts = json.loads((folder / "facts.json").read_text())
        blob = Blob(path=folder / "layer.tar", digest=facts["digest"], size=facts["size"])
        if blob.path.stat().st_size != blob.size:  # a disk that was full
            shutil.rmtree(folder)
            return self.layer(name, key, make)
        return blob

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder that is gone afterwards; on the same disk as the results."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".making-", dir=self.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def key_of(*inputs: str | bytes | Path | ModuleType) -> str:
    """Sixteen hex digits of everything given: text, a file's content, a module's source."""
    digest = hashlib.sha256()
    for item in inputs:
        match item:
            case str():
                content = item.encode()
            case bytes():
                content = item
            case Path():
                content = item.read_bytes()
            case _:
                content = inspect.getsource(item).encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:16]
