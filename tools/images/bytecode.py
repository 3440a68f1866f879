"""Compiles Python to bytecode as the image's own interpreter would, and never checks it against the source again.

A Pod's root is read-only: what is not compiled here would be compiled anew by every process that starts. Bytecode that
holds a source file's date would differ from build to build, and one that is checked would read every source:
`unchecked-hash`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tools.images.failures import ImageBuildError

_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
_NEVER_IMPORTED: Final = r"/(lib2to3/tests|templates?|_?vendor/.*/py2)/"


def compile_tree(root: Path, folder: Path, *, at: str, base: Path) -> None:
    """Add `__pycache__` to everything below `folder`, which will lie at `/at` in the image.

    `base` is the image's root on disk: its Python is used, whatever this machine's is. `root` is cut off
    the names that the bytecode holds.
    """
    python = [
        str(base / _LIBRARIES / "ld-linux-x86-64.so.2"),
        *("--library-path", str(base / _LIBRARIES)),
        str(base / "usr/bin/python3.11"),
    ]
    command = [
        *(*python, "-S", "-m", "compileall", "-q", "-f", "-j", "1"),  # in one process, in order: same bytes every time
        *("--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", f"/{at}", "-x", _NEVER_IMPORTED, str(folder)),
    ]
    environment = {"PYTHONHOME": str(base / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # Some packages carry files that no Python 3.11 can compile (templates, tests): they are left as they are.
    if not any(folder.rglob("*.pyc")) and any(folder.rglob("*.py")):
        raise ImageBuildError(
            "BytecodeFailed",
            f"The image's Python compiled nothing: {(done.stderr or done.stdout).strip()[-600:]}",
            remedy="Remove the cache's images folder; a package of the base may be damaged.",
        )
