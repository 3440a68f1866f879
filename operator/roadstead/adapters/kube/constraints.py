"""Limits on fields, each told once and kept twice.

A :class:`Rule` is checked by the API server, as CEL in the schema, and again by the operator when it parses, because an
object may be older than its schema. Both sides give the same sentence, so a person reads one explanation wherever the
refusal comes from. A regular expression must mean the same to RE2 and to Python: character classes, groups and
quantifiers only, ``[.]`` rather than a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

RULES = "x-kubernetes-validations"


class Strict(BaseModel):
    """Base of every node that a person writes: camelCase, immutable, unknown fields are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )


class Told(Strict):
    """Base of every node that the operator writes; what a newer operator adds is ignored."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit in CEL, in Python, and in words for both."""

    cel: str | None
    """None where the API server sees to it by itself."""
    message: str
    accepts: Callable[[Any], bool]

    @classmethod
    def matching(cls, pattern: str, message: str) -> Rule:
        """The whole string matches ``pattern``."""
        compiled = re.compile(pattern, re.ASCII)
        return cls(f"self.matches('^(?:{pattern})$')", message, lambda value: compiled.fullmatch(value) is not None)

    @classmethod
    def free_of(cls, pattern: str, message: str) -> Rule:
        """No part of the string matches ``pattern``."""
        compiled = re.compile(pattern, re.ASCII)
        return cls(f"!self.matches('{pattern}')", message, lambda value: compiled.search(value) is None)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        if self.cel is None:
            return schema
        schema[RULES] = [*schema.get(RULES, ()), {"rule": self.cel, "message": self.message}]
        return schema

    def _checked(self, value: object) -> object:
        if not self.accepts(value):
            raise PydanticCustomError("rule", "{sentence}", {"sentence": self.message})
        return value


NO_CONTROL_CHARACTERS = Rule(
    "!self.matches('[[:cntrl:]]')",
    "must not contain control characters (a line break, perhaps)",
    lambda value: re.search("[\x00-\x1f\x7f]", value) is None,
)

_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

ServedName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Rule.matching(
        "[a-z0-9]([-a-z0-9._:]*[a-z0-9])?",
        "must consist of lower-case letters, digits, '-', '.', '_' and ':', and start and end with a letter or digit "
        "(NAMESPACE/NAME always routes and need not be listed)",
    ),
]
DnsName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Rule.matching(
        f"{_NAME}([.]{_NAME})*",
        "must consist of lower-case letters, digits, '-' and '.', and start and end with a letter or digit",
    ),
]
Digest = Annotated[
    str,
    Field(max_length=71),
    Rule.matching("sha256:[0-9a-f]{64}", "must be 'sha256:' and 64 lower-case hexadecimal digits"),
]
Source = Annotated[
    str,
    Field(min_length=1, max_length=2048),
    Rule.matching(
        "(file:///|https?://[^/]).*",
        "must begin with 'file:///' (a path on the node), 'https://' or 'http://'",
    ),
    Rule.free_of(
        "^https?://[^/]*@", "must not hold a user or a password: everybody who may read the model would see it"
    ),
    NO_CONTROL_CHARACTERS,
]
LabelValue = Annotated[
    str,
    Field(max_length=63),
    Rule.matching("([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", "must be a label's value"),
]
LabelKey = Annotated[
    str,
    Field(min_length=1, max_length=316),
    Rule.matching(f"({_NAME}([.]{_NAME})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", "must be a label's key"),
]
EngineName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Rule.matching("[A-Z][A-Za-z0-9]*", "must be an engine's name, as LlamaCpp"),
]
ComputeCapability = Annotated[
    str,
    Field(max_length=4),
    Rule.matching("[1-9][0-9]?[.][0-9]", "must be a compute capability, as 8.6"),
]
Seconds = Annotated[
    str,
    Field(max_length=12),
    Rule.matching("0*[1-9][0-9]{0,5}(ms|s|m)", "must be a length of time above 0, as 500ms, 2s or 1m"),
]
OneLine = Annotated[str, Field(min_length=1, max_length=512), NO_CONTROL_CHARACTERS]
"""A short string for which only its length and its being one line matter."""


def in_seconds(text: str) -> float:
    """Of what :data:`Seconds` accepts."""
    number, unit = re.fullmatch("([0-9]+)(ms|s|m)", text, re.ASCII).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 0.001, "s": 1.0, "m": 60.0}[unit]
