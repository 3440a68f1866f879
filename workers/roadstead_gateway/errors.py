"""What the gateway says when it does not answer with a model's words: errors in OpenAI's shape.

Every refusal has a stable ``code`` (also the only label under which it is counted), a sentence for a person and, where
one field is at fault, its name. Nothing of an exception, an address, a path or an engine's internals goes into the
sentence; only an engine's words about the client's own input do (``engine_refusal``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MESSAGE_CHARACTERS: Final = 1000
"""An engine's message about the input is cut here."""

_CODES_OF_ENGINES: Final = {"exceed_context_size_error": "context_length_exceeded"}
"""What llama.cpp calls by another name than OpenAI does."""


@dataclass(eq=False)
class Refusal(Exception):
    """An answer that is an error; raised on the way in, sent at the edge. Not frozen, for Python writes tracebacks."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_seconds: int | None = None

    @property
    def kind(self) -> str:
        """OpenAI's ``type``."""
        match self.status:
            case 401 | 403:
                return "authentication_error"
            case 429:
                return "rate_limit_error"
            case status if status >= 500:
                return "server_error"
            case _:
                return "invalid_request_error"

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, separators=(",", ":")).encode()

    def event(self) -> bytes:
        """The same as a server-sent event, for a stream whose status line has long been sent."""
        return b"data: " + self.body() + b"\n\n"

    def headers(self) -> list[tuple[bytes, bytes]]:
        found = [(b"content-type", b"application/json")]
        if self.retry_after_seconds is not None:
            found.append((b"retry-after", str(self.retry_after_seconds).encode()))
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))
        return found


def invalid(message: str, param: str | None = None, *, code: str = "invalid_value") -> Refusal:
    return Refusal(400, code, message, param)


def unauthorized() -> Refusal:
    return Refusal(
        401, "invalid_api_key", "This API key is missing or not known here. Send `Authorization: Bearer KEY`."
    )


def model_not_found(model: str) -> Refusal:
    shown = model if len(model) <= 80 else f"{model[:80]}…"
    return Refusal(404, "model_not_found", f"The model `{shown}` does not exist here, or has not served yet.", "model")


def model_not_ready() -> Refusal:
    return Refusal(503, "model_not_ready", "No replica of this model can answer now.", "model", retry_after_seconds=2)


def model_overloaded() -> Refusal:
    return Refusal(
        503, "model_overloaded", "The queues of this model's replicas are full.", "model", retry_after_seconds=2
    )


def engine_failed() -> Refusal:
    return Refusal(502, "engine_failed", "The model's engine failed to answer.")


def engine_too_slow() -> Refusal:
    return Refusal(504, "engine_timeout", "The model's engine was silent for too long.")


def stream_broken() -> Refusal:
    return Refusal(502, "stream_broken", "The answer broke off before it was complete.")


def engine_refusal(status: int, payload: bytes) -> Refusal:
    """What a replica's answer of 4xx or 5xx becomes.

    4xx is about the client's input and keeps the engine's sentence. 401 and 403 mean that the replica does not know
    our secret, which is no fault of the client's; those and every 5xx become a sentence of ours.
    """
    if status in {401, 403} or status >= 500 or status < 400:
        return engine_too_slow() if status == 504 else engine_failed()
    return refusal_of(parse_error(payload), status)


def refusal_of(error: Mapping[str, object], status: int) -> Refusal:
    """A refusal in an engine's words about the input."""
    words = error.get("message")
    message = words if isinstance(words, str) and words.strip() else "The model's engine refused this request."
    message = "".join(letter if letter.isprintable() else " " for letter in message[:MESSAGE_CHARACTERS])
    kind, code, param = error.get("type"), error.get("code"), error.get("param")
    named = next((word for word in (code, kind) if isinstance(word, str) and word), "invalid_request_error")
    return Refusal(
        status,
        _CODES_OF_ENGINES.get(named, named[:64]),
        message,
        param[:64] if isinstance(param, str) else None,
        retry_after_seconds=1 if status == 429 else None,
    )


def parse_error(payload: bytes) -> Mapping[str, object]:
    """The error object in an answer, whichever engine wrote it; empty when there is none."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    inner = found.get("error", found)
    if isinstance(inner, dict):
        return inner
    return {"message": inner} if isinstance(inner, str) else {}
