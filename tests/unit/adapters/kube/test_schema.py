"""The chart's files say what the models say, at every node."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from roadstead.adapters.kube import crd, schema, schema_revisions
from roadstead.adapters.kube.crd import nodes, structural_schema
from roadstead.adapters.kube.resources import (
    KINDS,
    LOCAL_MODEL,
    MODEL_ROUTE,
    WORKER_POOL,
    Kind,
    ModelRouteSpec,
    RouteSlot,
)
from roadstead_gateway import contract


def test_the_charts_files_and_revisions_are_those_that_the_models_make() -> None:
    assert schema.complaints(schema.FOLDER, schema_revisions.FILE) == []


@pytest.fixture
def place(tmp_path: Path) -> tuple[str, str]:
    """Options for files of our own, written once."""
    options = (f"--folder={tmp_path / 'crds'}", f"--revisions={tmp_path / 'revisions.yaml'}")
    assert schema.main(["write", *options]) == 0
    return options


def test_check_fails_with_words_when_a_file_was_edited(
    place: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "crds" / "localmodels.yaml").write_text("edited")
    (tmp_path / "crds" / "left-over.yaml").touch()

    assert schema.main(["check", *place]) == 1
    assert capsys.readouterr().err == (
        "left-over.yaml differs from the models; run make schema\n"
        "localmodels.yaml differs from the models; run make schema\n"
    )


def test_a_schema_cannot_change_without_its_revision_rising(
    place: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = dataclasses.replace(MODEL_ROUTE, model=LOCAL_MODEL.model)
    for module in (schema, crd):
        monkeypatch.setattr(module, "KINDS", (LOCAL_MODEL, WORKER_POOL, changed))

    assert schema.main(["check", *place]) == 1
    assert "the schema of modelroutes has changed since revision 1; run make schema" in capsys.readouterr().err

    assert schema.main(["write", *place]) == 0
    assert schema.main(["check", *place]) == 0
    written = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "crds").iterdir()}
    revisions = {name: schema_revisions.revision_of(definition) for name, definition in written.items()}
    assert revisions == {"localmodels": 1, "modelroutes": 2, "workerpools": 1}


def test_a_schema_that_comes_back_is_a_new_revision() -> None:
    first = schema_revisions.raised({}, {"things": {"a": 1}})
    second = schema_revisions.raised(first, {"things": {"a": 2}})
    third = schema_revisions.raised(second, {"things": {"a": 1}})

    assert [len(each["things"]) for each in (first, second, third)] == [1, 2, 3]
    assert schema_revisions.raised(third, {"things": {"a": 1}}) == third


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_node_has_a_type_and_a_description(kind: Kind) -> None:
    bare = [path for path, node in nodes(structural_schema(kind)) if "type" not in node or not node.get("description")]

    assert bare == [".metadata"]  # the API server describes it itself


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_a_cel_rule_reads_is_bounded(kind: Kind) -> None:
    """Without bounds the API server refuses the whole definition: the rule could cost too much."""
    bounds = {"maxLength", "maxItems", "maxProperties", "properties"}  # an object's fields are bounded by themselves
    unbounded = [
        path
        for path, node in nodes(structural_schema(kind))
        if "x-kubernetes-validations" in node and not bounds & node.keys()
    ]

    assert unbounded == []


def test_a_model_route_has_the_fields_of_the_gateways_contract() -> None:
    def names(*models: type) -> list[set[str]]:
        return [set(model.model_fields) for model in models]  # type: ignore[attr-defined]

    assert names(ModelRouteSpec, RouteSlot) == names(contract.RouteSpec, contract.RouteSlot)
