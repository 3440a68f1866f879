"""Whether one CustomResourceDefinition only grows from another: what would be lost or forbidden, by path.

Objects of the live definition must stay readable, and writers of the live definition must stay accepted. So this is
what counts as shrinking: a version, subresource, short name, category or selectable field that is gone; another group,
scope or kind; and at each node of the schema a field that is gone, another type, an enum value that is gone, a limit
that is new or narrower, a field that is newly required and has no default, and a rule more than before.

Not compared, because nothing is lost by them: descriptions, columns of ``kubectl get``, defaults. Nor are the words of
a CEL rule: no program can tell whether another expression accepts less, so a rule may be rewritten and a reviewer looks
at it (the API server itself leaves fields alone that a new rule refuses and a write does not touch).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Node = Mapping[str, Any]

_CEILINGS = ("maxLength", "maxItems", "maxProperties", "maximum")
_FLOORS = ("minLength", "minItems", "minProperties", "minimum")
_ABSENT_OR_EQUAL = (
    "allOf", "anyOf", "exclusiveMaximum", "exclusiveMinimum", "format", "multipleOf", "not", "oneOf", "pattern",
    "uniqueItems", "x-kubernetes-embedded-resource",
)  # fmt: skip
"""Each of them narrows: it may go, but neither come nor change."""
_EQUAL = ("type", "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type")
_WIDENING = ("nullable", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")
"""Each of them widens: it may come, but not go."""
_RULES = "x-kubernetes-validations"


def shrinking(live: Node, wanted: Node) -> tuple[str, ...]:
    """What ``wanted`` would take away from ``live``, each as a path and words; empty if it only grows."""
    before, after = live["spec"], wanted["spec"]
    return (*_names(before, after), *_versions(before, after))


def _names(before: Node, after: Node) -> Iterator[str]:
    for path in ("group", "scope"):
        if before[path] != after[path]:
            yield f"spec.{path}: {before[path]} becomes {after[path]}"
    for path in ("kind", "plural"):
        if before["names"][path] != after["names"][path]:
            yield f"spec.names.{path}: {before['names'][path]} becomes {after['names'][path]}"
    for path in ("shortNames", "categories"):
        for name in _lost(before["names"].get(path), after["names"].get(path)):
            yield f"spec.names.{path}: {name} is gone"


def _versions(before: Node, after: Node) -> Iterator[str]:
    remaining = {version["name"]: version for version in after["versions"]}
    for version in before["versions"]:
        path = f"spec.versions[{version['name']}]"
        other = remaining.get(version["name"])
        if other is None:
            yield f"{path}: is gone"
            continue
        if version["served"] and not other["served"]:
            yield f"{path}.served: true becomes false"
        for name in _lost(version.get("subresources"), other.get("subresources")):
            yield f"{path}.subresources.{name}: is gone"
        fields = [[row["jsonPath"] for row in each.get("selectableFields") or ()] for each in (version, other)]
        for name in _lost(*fields):
            yield f"{path}.selectableFields: {name} is gone"
        yield from _node(version["schema"]["openAPIV3Schema"], other["schema"]["openAPIV3Schema"], path)


def _node(before: Node, after: Node, path: str) -> Iterator[str]:
    yield from _tighter(before, after, path)
    yield from _newly_required(before, after, path)
    children = after.get("properties", {})
    for name, child in before.get("properties", {}).items():
        if name in children:
            yield from _node(child, children[name], f"{path}.{name}")
        elif not after.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}: is gone"
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        child, other = before.get(key), after.get(key)
        if isinstance(child, Mapping) and isinstance(other, Mapping):
            yield from _node(child, other, f"{path}{mark}")
        elif child and not other and not after.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}{mark}: is gone"
        elif child is True and isinstance(other, Mapping):
            yield f"{path}{mark}: is limited to a schema"


def _tighter(before: Node, after: Node, path: str) -> Iterator[str]:
    for key, told in _keywords(before, after):
        yield f"{path}: {key} {told}"
    if "enum" in after and "enum" not in before:
        yield f"{path}: enum is limited to {', '.join(map(str, after['enum']))}"
    elif "enum" in after:
        for value in _lost(before["enum"], after["enum"]):
            yield f"{path}: enum value {value} is gone"
    if len(after.get(_RULES, ())) > len(before.get(_RULES, ())):
        yield f"{path}: has a rule more than before"


def _keywords(before: Node, after: Node) -> Iterator[tuple[str, str]]:
    narrower = (
        *(key for key in _CEILINGS if key in after and (key not in before or after[key] < before[key])),
        *(key for key in _FLOORS if key in after and (key not in before or after[key] > before[key])),
        *(key for key in _ABSENT_OR_EQUAL if key in after and after[key] != before.get(key)),
        *(key for key in _EQUAL if before.get(key) != after.get(key)),
    )
    for key in narrower:
        yield key, f"{before.get(key, 'none')} becomes {after.get(key, 'none')}"
    for key in _WIDENING:
        if before.get(key) and not after.get(key):
            yield key, "is gone"


def _newly_required(before: Node, after: Node, path: str) -> Iterator[str]:
    """A field that writers could leave out and no longer can: required, and no default stands in for it."""
    demanded = _demanded(before)
    for name in sorted(_demanded(after) - demanded):
        yield f"{path}.{name}: is required"


def _demanded(node: Node) -> set[str]:
    properties = node.get("properties", {})
    return {name for name in node.get("required", ()) if "default" not in properties.get(name, {})}


def _lost(before: Any, after: Any) -> list[Any]:  # noqa: ANN401 - a list of scalars, or the keys of a mapping
    return [value for value in before or () if value not in (after or ())]
