"""Server-sent events in passing: whole events go on at once, half an event waits for its other half."""

from __future__ import annotations

from typing import Final

_DONE: Final = b"data: [DONE]"
_ERROR: Final = b'data: {"error"'
_BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n")
_TAIL_BYTES: Final = 2048
_LARGEST_EVENT_BYTES: Final = 4 * 1024 * 1024
"""Beyond this a half event is passed on after all, so that an engine cannot fill the replica's memory."""


class EventStream:
    """Cuts a byte stream at ends of events (a blank line) and remembers how it ended.

    Engines send one event a chunk, so almost always nothing is held back.
    """

    def __init__(self) -> None:
        self._half = b""
        self.tail = b""
        """The last two kilobytes that were passed on."""

    @property
    def finished(self) -> bool:
        """Whether the last event was the engine's own end: ``data: [DONE]``, or an error that it told."""
        last = self.tail.replace(b"\r\n", b"\n").rstrip().rpartition(b"\n\n")[2]
        return last.startswith((_DONE, _ERROR))

    def push(self, chunk: bytes) -> bytes:
        """What can be passed on now; empty while an event is incomplete."""
        data = self._half + chunk if self._half else chunk
        end = max(at + len(blank) if (at := data.rfind(blank)) >= 0 else 0 for blank in _BLANK_LINES)
        if len(data) - end > _LARGEST_EVENT_BYTES:
            end = len(data)
        ready, self._half = data[:end], data[end:]
        self.tail = (self.tail + ready)[-_TAIL_BYTES:]
        return ready
