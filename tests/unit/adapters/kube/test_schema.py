"""The chart's files say what the models say, at every node."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadstead.adapters.kube import schema
from roadstead.adapters.kube.crd import nodes, structural_schema
from roadstead.adapters.kube.resources import KINDS, Kind, ModelRouteSpec, RouteSlot
from roadstead_gateway import contract


def test_the_charts_files_are_those_that_the_models_make() -> None:
    assert schema.differing(schema.FOLDER) == []


def test_check_fails_with_words_when_a_file_was_edited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main([f"--folder={tmp_path}"]) == 0
    (tmp_path / "localmodels.yaml").write_text("edited")
    (tmp_path / "left-over.yaml").touch()

    assert schema.main([f"--folder={tmp_path}", "--check"]) == 1
    assert "left-over.yaml, localmodels.yaml" in capsys.readouterr().err


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
