"""values.schema.json is the one home of the chart's values: it knows every field, and two files are made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from roadstead.adapters.kube.crd import custom_resource_definitions
from tools import chart_values

SCHEMA = json.loads(chart_values.SCHEMA.read_text())
KUBERNETES_OWN = {"nodeAffinity", "podAffinity", "podAntiAffinity", "podSelector", "namespaceSelector", "valueFrom"}
"""Objects of Kubernetes that are handed on whole; the API server knows their fields."""


def nodes(schema: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node, with the last name on the way to it."""
    yield name, schema
    for child_name, child in (schema.get("properties") or {}).items():
        yield from nodes(child, child_name)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], name)
    for child_name, child in schema.get("definitions", {}).items():
        yield from nodes(child, child_name)


def test_no_object_takes_fields_that_nobody_knows() -> None:
    open_ones = [
        name
        for name, node in nodes(SCHEMA)
        if node.get("type") == "object" and "additionalProperties" not in node and name not in KUBERNETES_OWN
    ]

    assert open_ones == []
    assert [name for name, node in nodes(SCHEMA) if node.get("additionalProperties") is True] == []


def test_every_value_has_a_default_and_says_what_it_is() -> None:
    schema = chart_values.Schema(chart_values.SCHEMA.read_text())

    def missing(path: str, node: Mapping[str, Any]) -> Iterator[str]:
        children = schema.children(dict(node))
        if not node.get("description"):
            yield f"{path}: no description"
        if children and "default" not in node:
            for name, child in children.items():
                yield from missing(f"{path}.{name}", child)
        elif "default" not in node:
            yield f"{path}: no default"

    top = schema.children(schema.root)
    assert [each for name, node in top.items() for each in missing(name, node)] == []


def test_the_files_made_from_it_are_as_they_would_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert chart_values.main(["--check"]) == 0, capsys.readouterr().out


def test_check_fails_with_words_when_a_file_was_edited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, file in (("VALUES", "values.yaml"), ("REFERENCE", "values.md")):
        monkeypatch.setattr(chart_values, name, tmp_path / file)
    monkeypatch.setattr(chart_values, "ROOT", tmp_path)
    chart_values.main([])
    (tmp_path / "values.yaml").write_text("edited")

    assert chart_values.main(["--check"]) == 1
    assert "values.yaml differs from the schema" in capsys.readouterr().out


def test_values_yaml_holds_the_defaults_of_the_schema() -> None:
    values = yaml.safe_load(chart_values.VALUES.read_text())

    assert values.keys() == SCHEMA["properties"].keys()
    assert values["gateway"]["drainSeconds"] == 60
    assert values["networkPolicy"]["sources"]["except"] == ["169.254.0.0/16", "fd00:ec2::/32"]
    assert values["image"]["roadstead"] == {"repository": "roadstead/roadstead", "tag": "", "digest": ""}


def test_a_pool_in_the_values_has_every_field_of_a_worker_pool() -> None:
    """A field that only one of them had could not be given, or would be refused after the release was made."""
    schema = chart_values.Schema(chart_values.SCHEMA.read_text())
    crd = next(crd for crd in custom_resource_definitions() if crd["spec"]["names"]["kind"] == "WorkerPool")
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    def fields(node: Mapping[str, Any], path: str = "") -> Iterator[str]:
        children = schema.children(dict(node)) or schema.children(schema.resolved(node.get("items", {})))
        if not children:
            yield path
        for name, child in children.items():
            yield from fields(schema.resolved(child), f"{path}.{name}")

    pool = schema.resolved(SCHEMA["properties"]["workerPools"]["additionalProperties"])
    assert set(fields(pool)) - {".adopt"} == set(fields(spec))
