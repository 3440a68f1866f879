"""Reads a model's stream of server-sent events as it passes, to tell a whole answer from a broken one.

Engines end a good stream with a finish reason and ``[DONE]``. Killed ones do anything: llama.cpp stops in mid-event,
vLLM may even send a tidy ``[DONE]`` behind an answer it cut. Clients cannot tell, so the gateway must: only whole
events are passed on, and a stream without a finish reason *and* ``[DONE]`` counts as broken, which the client is told
by an error event in place of ``[DONE]``. Nothing is ever invented, and events pass byte for byte.

Every check on the common path is one search in C over the bytes at hand: a chunk costs a few microseconds, since on CPU
nodes every cycle here is taken from an engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""One event, e.g. with log probabilities; a larger one is a broken stream."""

# A quotation mark inside a JSON string is escaped, so these never match inside a model's words.
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*"')
_TOKENS: Final = re.compile(rb'"(?:completion_tokens|predicted_n)"\s*:\s*(\d{1,9})\b')
_ERROR: Final = re.compile(rb'^data:\s*\{"error"|"error"\s*:\s*[{"]', re.MULTILINE)
_DONE: Final = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_DONE_EVENT: Final = b"data: [DONE]\n\n"


class StreamBroken(Exception):
    """The answer is not whole."""


class EventScan:
    """Follows one stream. ``feed`` what arrives and pass on what it returns; ask ``whole`` at the end."""

    __slots__ = ("_finished", "_held", "_reported", "done", "error", "events")

    def __init__(self) -> None:
        self._held = b""
        self._finished = False
        self._reported = 0
        self.done = False
        """``[DONE]`` came, rightly or not: whatever follows is not read."""
        self.error: Mapping[str, object] | None = None
        """The engine's own error event; it ends the stream and is not passed on as it is."""
        self.events = 0

    @property
    def whole(self) -> bool:
        return self.done and self._finished and self.error is None

    @property
    def over(self) -> bool:
        return self.done or self.error is not None

    @property
    def tokens(self) -> int:
        """As the engine counted them, else about one an event."""
        return self._reported or self.events

    def feed(self, chunk: bytes) -> bytes:
        """The whole events there are now; what is left waits for its end. Raises ``StreamBroken`` on a giant one."""
        if self._held:
            chunk = self._held + chunk
        if chunk.endswith(b"\n\n"):
            self._held = b""
        else:
            cut = max(chunk.rfind(b"\n\n") + 2, chunk.rfind(b"\r\n\r\n") + 4)
            cut = cut if cut >= 4 else (2 if chunk.startswith(b"\n\n") else 0)
            chunk, self._held = chunk[:cut], chunk[cut:]
            if len(self._held) > MAX_EVENT_BYTES:
                raise StreamBroken
            if not chunk:
                return b""
        return self._read(chunk)

    def _read(self, events: bytes) -> bytes:
        self.events += events.count(b"\ndata:") + events.startswith(b"data:")
        if b'"error"' in events and _ERROR.search(events):
            events = self._before_error(events)
        if not self._finished and _FINISH.search(events):
            self._finished = True
        if self._finished:
            for reported in _TOKENS.finditer(events):
                self._reported = int(reported[1])
        if b"[DONE]" in events and (found := _DONE.search(events)):
            self.done = True
            self.events -= 1
            # Held back until the answer has proved whole.
            events = events[: found.start()]
            return events + _DONE_EVENT if self.whole else events
        return events

    def _before_error(self, events: bytes) -> bytes:
        """What precedes the first event that is an error; all of it when the word only looked like one."""
        start = 0
        for line in events.splitlines(keepends=True):
            if line.startswith(b"data:") and b'"error"' in line:
                found = _error_in(line[5:])
                if found is not None:
                    self.error = found
                    return events[:start]
            start += len(line)
        return events


def _error_in(data: bytes) -> Mapping[str, object] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    match found:
        case {"error": dict() as inner}:
            return inner
        case {"error": str() as words}:
            return {"message": words}
        case _:
            return None


def tokens_in(answer: bytes) -> int:
    """How many tokens a whole answer says it has; 0 when it does not say."""
    # At the end of the answer in every engine we know; the model's words before it may be long.
    found = _TOKENS.search(answer, max(0, len(answer) - 4096))
    return int(found[1]) if found else 0
