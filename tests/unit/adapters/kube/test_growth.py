"""What counts as shrinking a definition, one row each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from roadstead.adapters.kube.crd import custom_resource_definitions
from roadstead.adapters.kube.growth import shrinking

Definition = dict[str, Any]
Change = Callable[[Definition], object]


def live() -> Definition:
    """A definition with one of everything that is compared."""
    return {
        "metadata": {"name": "things.example.dev"},
        "spec": {
            "group": "example.dev",
            "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things", "shortNames": ["th"], "categories": ["all"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": ".spec.colour"}],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "required": ["size"],
                                    "properties": {
                                        "size": {"type": "integer", "minimum": 1, "maximum": 9},
                                        "colour": {"type": "string", "enum": ["Red", "Blue"], "default": "Red"},
                                        "word": {
                                            "type": "string",
                                            "maxLength": 9,
                                            "nullable": True,
                                            "x-kubernetes-validations": [{"rule": "self != 'a'", "message": "no"}],
                                        },
                                        "list": {
                                            "type": "array",
                                            "x-kubernetes-list-type": "set",
                                            "items": {"type": "string"},
                                        },
                                        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                                        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    },
                                }
                            },
                        }
                    },
                }
            ],
        },
    }


def version(definition: Definition) -> Definition:
    found: Definition = definition["spec"]["versions"][0]
    return found


def spec(definition: Definition) -> Definition:
    found: Definition = version(definition)["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def field(definition: Definition, name: str) -> Definition:
    found: Definition = spec(definition)["properties"][name]
    return found


SHRINKS: list[tuple[str, Change, str]] = [
    ("another group", lambda d: d["spec"].update(group="other.dev"), "spec.group: example.dev becomes other.dev"),
    ("another scope", lambda d: d["spec"].update(scope="Cluster"), "spec.scope: Namespaced becomes Cluster"),
    ("another kind", lambda d: d["spec"]["names"].update(kind="T"), "spec.names.kind: Thing becomes T"),
    ("no short name", lambda d: d["spec"]["names"].pop("shortNames"), "spec.names.shortNames: th is gone"),
    ("no category", lambda d: d["spec"]["names"].update(categories=[]), "spec.names.categories: all is gone"),
    ("no version", lambda d: d["spec"].update(versions=[]), "spec.versions[v1]: is gone"),
    ("not served", lambda d: version(d).update(served=False), "spec.versions[v1].served: true becomes false"),
    ("no status", lambda d: version(d).pop("subresources"), "spec.versions[v1].subresources.status: is gone"),
    (
        "a field that can no longer be selected by",
        lambda d: version(d).pop("selectableFields"),
        "spec.versions[v1].selectableFields: .spec.colour is gone",
    ),
    ("no field", lambda d: spec(d)["properties"].pop("word"), "spec.versions[v1].spec.word: is gone"),
    (
        "another type",
        lambda d: field(d, "size").update(type="string"),
        "spec.versions[v1].spec.size: type integer becomes string",
    ),
    (
        "an enum value less",
        lambda d: field(d, "colour").update(enum=["Red"]),
        "spec.versions[v1].spec.colour: enum value Blue is gone",
    ),
    (
        "an enum that was none",
        lambda d: field(d, "word").update(enum=["a", "b"]),
        "spec.versions[v1].spec.word: enum is limited to a, b",
    ),
    (
        "a lower ceiling",
        lambda d: field(d, "size").update(maximum=8),
        "spec.versions[v1].spec.size: maximum 9 becomes 8",
    ),
    (
        "a higher floor",
        lambda d: field(d, "size").update(minimum=2),
        "spec.versions[v1].spec.size: minimum 1 becomes 2",
    ),
    (
        "a new ceiling",
        lambda d: field(d, "list").update(maxItems=3),
        "spec.versions[v1].spec.list: maxItems none becomes 3",
    ),
    (
        "a new pattern",
        lambda d: field(d, "word").update(pattern="a"),
        "spec.versions[v1].spec.word: pattern none becomes a",
    ),
    ("no null", lambda d: field(d, "word").pop("nullable"), "spec.versions[v1].spec.word: nullable is gone"),
    (
        "no unknown fields",
        lambda d: field(d, "open").pop("x-kubernetes-preserve-unknown-fields"),
        "spec.versions[v1].spec.open: x-kubernetes-preserve-unknown-fields is gone",
    ),
    (
        "another kind of list",
        lambda d: field(d, "list").update({"x-kubernetes-list-type": "atomic"}),
        "spec.versions[v1].spec.list: x-kubernetes-list-type set becomes atomic",
    ),
    (
        "a rule more",
        lambda d: field(d, "word")["x-kubernetes-validations"].append({"rule": "true", "message": "b"}),
        "spec.versions[v1].spec.word: has a rule more than before",
    ),
    (
        "a field that must be there",
        lambda d: spec(d)["required"].append("word"),
        "spec.versions[v1].spec.word: is required",
    ),
    (
        "a required field without its default",
        lambda d: (spec(d)["required"].append("colour"), field(d, "colour").pop("default")),
        "spec.versions[v1].spec.colour: is required",
    ),
    (
        "items of another type",
        lambda d: field(d, "list")["items"].update(type="integer"),
        "spec.versions[v1].spec.list[]: type string becomes integer",
    ),
    (
        "values of another type",
        lambda d: field(d, "labels")["additionalProperties"].update(type="integer"),
        "spec.versions[v1].spec.labels.*: type string becomes integer",
    ),
    (
        "no more free keys",
        lambda d: field(d, "labels").pop("additionalProperties"),
        "spec.versions[v1].spec.labels.*: is gone",
    ),
]


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in SHRINKS], ids=[row[0] for row in SHRINKS])
def test_it_shrinks(change: Change, words: str) -> None:
    wanted = live()
    change(wanted)

    assert words in shrinking(live(), wanted)


GROWS: list[tuple[str, Change]] = [
    ("nothing", lambda d: None),
    ("a version more", lambda d: d["spec"]["versions"].append({**version(live()), "name": "v2", "storage": False})),
    ("a field more", lambda d: spec(d)["properties"].update(new={"type": "string", "maxLength": 3})),
    ("an enum value more", lambda d: field(d, "colour")["enum"].append("Green")),
    ("no enum any more", lambda d: field(d, "colour").pop("enum")),
    ("a higher ceiling", lambda d: field(d, "size").update(maximum=10)),
    ("no ceiling", lambda d: field(d, "size").pop("maximum")),
    ("a lower floor", lambda d: field(d, "size").update(minimum=0)),
    ("a field that may be left out now", lambda d: spec(d)["required"].clear()),
    ("a required field with a default", lambda d: spec(d)["required"].append("colour")),
    ("no rule", lambda d: field(d, "word").pop("x-kubernetes-validations")),
    ("a rule in other words", lambda d: field(d, "word")["x-kubernetes-validations"][0].update(rule="self != 'b'")),
    ("other words for people", lambda d: field(d, "word").update(description="Another.")),
    ("fields that may be anything now", lambda d: spec(d).update({"x-kubernetes-preserve-unknown-fields": True})),
]


@pytest.mark.parametrize("change", [row[1] for row in GROWS], ids=[row[0] for row in GROWS])
def test_it_grows(change: Change) -> None:
    wanted = live()
    change(wanted)

    assert shrinking(live(), wanted) == ()


def test_a_field_may_go_where_unknown_ones_are_kept() -> None:
    wanted = live()
    spec(wanted)["x-kubernetes-preserve-unknown-fields"] = True
    spec(wanted)["properties"].pop("word")

    assert shrinking(live(), wanted) == ()


def test_losses_are_told_all_at_once_and_in_the_order_of_the_definition() -> None:
    wanted = live()
    wanted["spec"]["scope"] = "Cluster"
    spec(wanted)["properties"].pop("word")
    field(wanted, "size")["maximum"] = 1

    assert shrinking(live(), wanted) == (
        "spec.scope: Namespaced becomes Cluster",
        "spec.versions[v1].spec.size: maximum 9 becomes 1",
        "spec.versions[v1].spec.word: is gone",
    )


def test_our_own_definitions_do_not_shrink_from_themselves() -> None:
    for definition in custom_resource_definitions():
        assert shrinking(definition, copy.deepcopy(definition)) == ()
