"""The revision of each definition: how often its schema has changed, so that an older chart knows that it is older.

``schema_revisions.yaml`` holds the digests of all schemas that a kind has had, in order; the revision is the number of
the last. ``python -m roadstead.adapters.kube.schema write`` appends, ``check`` fails where nobody did: a schema cannot
change without its revision rising.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

FILE = Path(__file__).with_suffix(".yaml")
ANNOTATION = "roadstead.dev/schema-revision"
_HEADER = """\
# The digest of every schema that a kind has had, oldest first; the revision of a schema is its place in this list.
# Appended to by `make schema`. Never change or remove a line that was released: clusters remember its number.
"""
_SHAPE = TypeAdapter(dict[str, list[str]])

Digests = Mapping[str, tuple[str, ...]]
"""By plural name of the kind."""


def parse(text: str) -> Digests:
    """The digests that a file holds."""
    return {plural: tuple(digests) for plural, digests in _SHAPE.validate_python(yaml.safe_load(text) or {}).items()}


def render(digests: Digests) -> str:
    """The file that holds these digests."""
    return _HEADER + yaml.safe_dump({plural: list(each) for plural, each in digests.items()}, sort_keys=True)


@cache
def committed() -> Digests:
    """Those that belong to this program."""
    return parse(FILE.read_text(encoding="utf-8"))


def digest(spec: Mapping[str, Any]) -> str:
    """Sixteen hex digits of a definition's ``spec``; the order of its keys does not count."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def raised(digests: Digests, specs: Mapping[str, Mapping[str, Any]]) -> Digests:
    """``digests`` with one more wherever the schema is not the last one; a schema that comes back is a new revision."""
    return {plural: _with_last(digests.get(plural, ()), digest(spec)) for plural, spec in specs.items()}


def _with_last(digests: tuple[str, ...], last: str) -> tuple[str, ...]:
    return digests if digests[-1:] == (last,) else (*digests, last)


def revision_of(definition: Mapping[str, Any]) -> int:
    """The revision that a definition tells; 0 for one that tells none, or nonsense."""
    text = str((definition["metadata"].get("annotations") or {}).get(ANNOTATION, "0"))
    return int(text) if text.isdecimal() else 0
