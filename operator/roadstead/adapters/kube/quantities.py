"""Kubernetes' quantities (``500m``, ``8Gi``), read as Kubernetes reads them and kept in range.

The grammar is the client library's; here it is bounded from below and above, on both sides of the API server, because a
pool that asks for 4 bytes of memory is a slip of the pen that would otherwise show as an endless crash of engines.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final

from kubernetes.utils.quantity import parse_quantity
from pydantic import Field

from roadstead.adapters.kube.constraints import Rule

_GRAMMAR: Final = re.compile("[0-9]+([.][0-9]+)?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?", re.ASCII)


def number(text: str) -> Decimal:
    """Cores or bytes. Raises ``ValueError`` for what is no quantity."""
    if not _GRAMMAR.fullmatch(text):
        raise ValueError(f"{text!r} is no quantity")
    value: Decimal = parse_quantity(text)  # type: ignore[no-untyped-call]
    return value


def whole_bytes(text: str) -> int:
    """Bytes; parts of a byte are dropped."""
    return int(number(text))


def between(least: str, most: str, what: str) -> Rule:
    """From ``least`` to ``most``, both included; ``what`` says it in words."""

    def accepts(value: str) -> bool:
        try:
            return number(least) <= number(value) <= number(most)
        except (ValueError, InvalidOperation):
            return False

    return Rule(
        f"self.matches('^(?:{_GRAMMAR.pattern})$') && isQuantity(self)"
        f" && quantity(self).compareTo(quantity('{least}')) >= 0"
        f" && quantity(self).compareTo(quantity('{most}')) <= 0",
        f"must be {what}, from {least} to {most}, as in 2, 500m or 8Gi",
        accepts,
    )


def exceeds(value: str, limit: str) -> bool:
    """Whether the first is more than the second; both have been checked before."""
    return number(value) > number(limit)


_SHORT = Field(min_length=1, max_length=24)

EngineCores = Annotated[str, _SHORT, between("1", "1024", "a number of cores")]
EngineMemory = Annotated[str, _SHORT, between("1536Mi", "64Ti", "an amount of memory")]
ReservedCores = Annotated[str, _SHORT, between("1m", "1024", "a number of cores")]
ReservedMemory = Annotated[str, _SHORT, between("1Mi", "64Ti", "an amount of memory")]
StoreSize = Annotated[str, _SHORT, between("64Mi", "1024Ti", "an amount of disk")]
