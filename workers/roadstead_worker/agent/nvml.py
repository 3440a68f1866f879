"""Calls into NVIDIA's management library, with its errors in words.

Names, structures and codes are those of NVIDIA's ``nvml.h``, whose interface is stable. So few functions are needed
that no package is worth its place in the image.
"""

from __future__ import annotations

import ctypes
from typing import Final

NOT_SUPPORTED: Final = 3
NOT_FOUND: Final = 6
FUNCTION_NOT_FOUND: Final = 13
_TEXT_BYTES: Final = 96
"""Enough for every name and UUID (``NVML_DEVICE_NAME_V2_BUFFER_SIZE``, ``NVML_DEVICE_UUID_V2_BUFFER_SIZE``)."""


class NvmlFailed(Exception):
    """A call that did not succeed; ``code`` is an ``nvmlReturn_t``."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Memory(ctypes.Structure):
    """``nvmlMemory_t``, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))
    total: int
    free: int


class Nvml:
    """The library, started. ``OSError`` where it is not there, ``NvmlFailed`` where it does not start."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)
        self.call("nvmlInit_v2")

    def call(self, name: str, *arguments: object) -> None:
        """Raises ``NvmlFailed``, also of a library that is too old to have the function."""
        try:
            function = self._library[name]
        except AttributeError:
            raise NvmlFailed(FUNCTION_NOT_FOUND, f"it has no {name}") from None
        code = int(function(*arguments))
        if code:
            raise NvmlFailed(code, f"{name}: {self._words(code)}")

    def number(self, name: str, *arguments: object) -> int:
        """Of a function whose last argument takes an unsigned integer."""
        number = ctypes.c_uint()
        self.call(name, *arguments, ctypes.byref(number))
        return number.value

    def handle(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """Of a function whose last argument takes a device."""
        handle = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle

    def text(self, name: str, handle: ctypes.c_void_p) -> str:
        """Of a function that writes into a buffer of a given length."""
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        self.call(name, handle, text, ctypes.c_uint(_TEXT_BYTES))
        return text.value.decode(errors="replace")

    def _words(self, code: int) -> str:
        function = self._library["nvmlErrorString"]
        function.restype = ctypes.c_char_p
        words: bytes | None = function(code)
        return (words or b"unknown error").decode(errors="replace")
