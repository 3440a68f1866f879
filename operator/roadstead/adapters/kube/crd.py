"""CustomResourceDefinitions made from the pydantic models.

The API server wants *structural* schemas: no references, no unions, a type at every node. We want a description at
every node as well, because ``kubectl explain`` is the manual; a node without one is a programming error and is refused
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from roadstead.adapters.kube.resources import GROUP, KINDS, VERSION, Column, Kind
from roadstead.adapters.kube.schema_revisions import ANNOTATION, Digests, committed

_KEPT = (
    "default", "description", "enum", "format", "maxItems", "maxLength", "maxProperties", "maximum", "minItems",
    "minLength", "minimum", "required", "type",
)  # fmt: skip
_LABELS = {
    "app.kubernetes.io/name": "roadstead",
    "app.kubernetes.io/part-of": "roadstead",
    "app.kubernetes.io/component": "crds",
}
"""Of no release: all releases in a cluster share the definitions."""
_STANDARD: dict[str, dict[str, Any]] = {
    "apiVersion": {"type": "string", "description": "Group and version: roadstead.dev/v1alpha1."},
    "kind": {"type": "string", "description": "The kind of this object."},
    "metadata": {"type": "object"},
}


def custom_resource_definitions(digests: Digests | None = None) -> tuple[dict[str, Any], ...]:
    """One definition for each kind, ready to be applied, at the revisions that the digests count."""
    known = committed() if digests is None else digests
    return tuple(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{kind.plural}.{GROUP}",
                "labels": _LABELS,
                "annotations": {ANNOTATION: str(len(known.get(kind.plural, ())))},
            },
            "spec": definition_spec(kind),
        }
        for kind in KINDS
    )


def definition_spec(kind: Kind) -> dict[str, Any]:
    """What the definition of one kind says."""
    subresources: dict[str, Any] = {"status": {}} if "status" in kind.model.model_fields else {}
    if kind.scalable:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "group": GROUP,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "names": {
            "kind": kind.name,
            "listKind": f"{kind.name}List",
            "plural": kind.plural,
            "singular": kind.name.lower(),
            **({"shortNames": list(kind.short_names)} if kind.short_names else {}),
            **({"categories": list(kind.categories)} if kind.categories else {}),
        },
        "versions": [
            {
                "name": VERSION,
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": structural_schema(kind)},
                "additionalPrinterColumns": [_column(column) for column in kind.columns],
                **({"subresources": subresources} if subresources else {}),
            }
        ],
    }


def structural_schema(kind: Kind) -> dict[str, Any]:
    """``openAPIV3Schema`` of a kind."""
    whole = kind.model.model_json_schema(by_alias=True, mode="validation")
    schema = _node(whole, whole.get("$defs", {}), kind.name)
    schema["properties"] = _STANDARD | schema["properties"]
    return schema


def nodes(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node of a structural schema with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}.*")


def _node(raw: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    source = _resolved(raw, definitions)
    node = {key: source[key] for key in sorted(source) if key in _KEPT or key.startswith("x-kubernetes-")}
    if not node.get("description"):
        raise TypeError(f"{path} has no description")
    node["description"] = " ".join(node["description"].split())
    if node["type"] == "integer":
        node["format"] = "int64"
    if node.get("default") == [] or node.get("default") == {}:
        del node["default"]  # the operator reads an absent list as an empty one; nobody wants it in their objects
    if "properties" in source:
        node["properties"] = {
            name: _node(child, definitions, f"{path}.{name}") for name, child in source["properties"].items()
        }
    if "items" in source:
        node["items"] = _node(source["items"], definitions, f"{path}[]")
    if isinstance(source.get("additionalProperties"), dict):
        node["additionalProperties"] = _node(source["additionalProperties"], definitions, f"{path}.*")
    return node


def _resolved(raw: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """References put in place, ``X | None`` reduced to ``X``: an absent field says the same."""
    source = dict(raw)
    if "$ref" in source:
        definition = definitions[source.pop("$ref").removeprefix("#/$defs/")]
        source = _resolved(definition, definitions) | source
    if "anyOf" in source:
        (only,) = (option for option in source.pop("anyOf") if option.get("type") != "null")
        source = _resolved(only, definitions) | source
        if source.get("default", ...) is None:
            del source["default"]
    return source


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
        **({"priority": 1} if column.wide else {}),
    }
