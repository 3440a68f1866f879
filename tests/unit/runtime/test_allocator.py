"""What a large list took is given back, however large the next block is."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

_MIB: Final = 1 << 20
_PROGRAM: Final = """
import sys
from roadstead.runtime.allocator import give_freed_memory_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if sys.argv[1] == "told" and not give_freed_memory_back():
    sys.exit(77)
large = bytearray(16 << 20)
del large  # as a list is read and forgotten: the thresholds would grow to this
before = resident()
blocks = [bytearray(b"x" * (4 << 20)) for _ in range(4)]
last = bytearray(b"x" * (64 << 10))
del blocks
print(resident() - before)
"""


def _stays_resident(told: str) -> int:
    ran = subprocess.run([sys.executable, "-c", _PROGRAM, told], capture_output=True, text=True, check=False)
    if ran.returncode == 77:
        pytest.skip("another C library, which gives back by itself")
    return int(ran.stdout)


def test_freed_blocks_are_given_back_although_something_was_allocated_after_them() -> None:
    assert _stays_resident("told") < _MIB
    assert _stays_resident("not told") > 8 * _MIB
