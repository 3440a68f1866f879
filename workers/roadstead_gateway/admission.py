"""What a request must be before it is passed on: bounded, strict JSON, and a few fields within bounds.

The body goes to the engine byte for byte as the client sent it. So the gateway and the engine must not be able to
read it differently: duplicate keys (two ``model``), ``NaN`` and numbers beyond a double are refused, since parsers
disagree on them. Nesting is bounded because parsers behind us recurse. Of the fields only those are looked at that
route (``model``), choose the answer's form (``stream``) or multiply work (``LIMITS``); what an engine makes of the
rest is its own business.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Final

from roadstead_gateway.errors import Refusal, invalid

MAX_DEPTH: Final = 128
"""Nested arrays and objects. JSON schemas in tool definitions reach about 30."""
MAX_MODEL_CHARACTERS: Final = 320
"""A namespace and a name of Kubernetes, and the slash between them."""
MAX_STOPS: Final = 64

_TOKENS: Final = 1_000_000

LIMITS: Final[dict[str, tuple[int, int]]] = {
    "n": (1, 8),
    "best_of": (1, 8),
    "top_logprobs": (0, 20),
    "max_tokens": (1, _TOKENS),
    "max_completion_tokens": (1, _TOKENS),
    # llama.cpp's own words for the same; its -1 (no end) and a negative n_discard (CVE-2026-21869) are thereby refused.
    "n_predict": (0, _TOKENS),
    "n_probs": (0, 20),
    "n_keep": (0, _TOKENS),
    "n_discard": (0, _TOKENS),
}
"""Whole numbers with the lowest and highest value that is let through; ``null`` means not given."""
LOGPROBS: Final = (0, 20)
"""Of ``logprobs`` where it is a number (completions); in chats it is true or false."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the gateway needs to know of a request."""

    model: str
    stream: bool


def admit(body: bytes) -> Wanted:
    """Read what routes; raise the ``Refusal`` of the first thing that is wrong."""
    fields = parse_strictly(body)
    if not isinstance(fields, dict):
        raise invalid("The body must be a JSON object.", code="invalid_json")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("`model` must name a model.", "model")
    if len(model) > MAX_MODEL_CHARACTERS:
        raise invalid(f"`model` must have at most {MAX_MODEL_CHARACTERS} characters.", "model")
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise invalid("`stream` must be true or false.", "stream")
    _check_options(fields.get("stream_options"), stream=bool(stream))
    for name in LIMITS.keys() & fields.keys():
        _check_limit(name, fields[name], LIMITS[name])
    logprobs = fields.get("logprobs")
    if not isinstance(logprobs, bool):
        _check_limit("logprobs", logprobs, LOGPROBS)
    stops = fields.get("stop")
    if isinstance(stops, list) and len(stops) > MAX_STOPS:
        raise invalid(f"`stop` may have at most {MAX_STOPS} entries.", "stop")
    return Wanted(model=model, stream=bool(stream))


def _check_options(options: object, *, stream: bool) -> None:
    if options is None:
        return
    if not isinstance(options, dict):
        raise invalid("`stream_options` must be an object.", "stream_options")
    if not stream:
        raise invalid("`stream_options` may be given only with `stream: true`.", "stream_options")


def _check_limit(name: str, value: object, limits: tuple[int, int]) -> None:
    if value is None:
        return
    low, high = limits
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise invalid(f"`{name}` must be a whole number from {low} to {high}.", name)


class _NotStrict(ValueError):
    """Valid to some parsers and not to others."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotStrict("an object has the same key twice")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _NotStrict("a number is too large")
    return number


def _no_constant(name: str) -> object:
    raise _NotStrict(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)


def parse_strictly(body: bytes) -> object:
    """Parse UTF-8 JSON that every parser reads alike; raise a ``Refusal`` otherwise."""
    try:
        found: object = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise _not_json("it is not UTF-8") from error
    except _NotStrict as error:
        raise _not_json(str(error)) from error
    except json.JSONDecodeError as error:
        raise _not_json(f"{error.msg}, character {error.pos}") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # whole numbers of more than 4,300 digits
        raise _not_json("a number is too large") from error
    # Counting brackets is a thousand times cheaper than walking; most requests have far fewer than the limit.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(found, MAX_DEPTH):
        raise _too_deep()
    return found


def _deeper_than(value: object, limit: int) -> bool:
    layer = [value]
    for _ in range(limit):
        below: list[object] = []
        for item in layer:
            if isinstance(item, dict):
                below.extend(child for child in item.values() if isinstance(child, dict | list))
            elif isinstance(item, list):
                below.extend(child for child in item if isinstance(child, dict | list))
        if not below:
            return False
        layer = below
    return True


def _not_json(why: str) -> Refusal:
    return invalid(f"The body is not strict JSON: {why}.", code="invalid_json")


def _too_deep() -> Refusal:
    return invalid(f"The body is nested deeper than {MAX_DEPTH} levels.", code="invalid_json")
