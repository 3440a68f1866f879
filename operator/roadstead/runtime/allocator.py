"""Has the C library give memory back that is freed.

Its two thresholds grow with the largest block that was ever freed: after one list of thousands of objects, blocks of up
to 32 MiB are cut out of a heap that ends with whatever was allocated last, and what is freed below that stays with the
process. Set once, they are fixed: 2,000 models on 1,000 nodes took 432 MiB without and 382 MiB with it.
"""

from __future__ import annotations

import ctypes
from typing import Final

# Of malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_BYTES: Final = 128 * 1024
"""glibc's own, until it grows."""


def give_freed_memory_back() -> bool:
    """For this process, from now on. Whether its C library can be told: musl gives back by itself."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return all(library.mallopt(what, _BYTES) == 1 for what in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD))
