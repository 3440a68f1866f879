"""Charts old and new against a real API server: its definitions grow, and what is stored under them survives."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from roadstead.adapters.kube import schema
from roadstead.adapters.kube.api import Api
from roadstead.adapters.kube.definitions import DefinitionProblem, bring_up
from roadstead.adapters.kube.schema_revisions import ANNOTATION
from tests.fixtures.control_plane import RunningControlPlane

pytestmark = pytest.mark.contract

Definition = dict[str, Any]
Made = Callable[..., Definition]
_COUNTER = itertools.count(1)


@pytest.fixture
def thing() -> Made:
    """Definitions of a kind that belongs to this test, with so many fields, of which ``b`` has an enum."""
    group = f"g{next(_COUNTER)}.example.dev"

    def made(revision: int, *fields: str, values: tuple[str, ...] = ("x", "y")) -> Definition:
        properties: dict[str, Any] = {field: {"type": "string"} for field in fields}
        if "b" in properties:
            properties["b"]["enum"] = list(values)
        names = {"kind": "Thing", "listKind": "ThingList", "plural": "things", "singular": "thing"}
        version = {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"things.{group}", "annotations": {ANNOTATION: str(revision)}},
            "spec": {"group": group, "scope": "Cluster", "names": names, "versions": [version]},
        }

    return made


async def brought_up(api: Api, definition: Definition) -> str:
    said: list[str] = []
    await bring_up(schema.ApiDefinitions(api), [definition], say=said.append)
    return said[0].partition(": ")[2]


def live(plane: RunningControlPlane, definition: Definition) -> Definition:
    found: Definition = json.loads(plane.kubectl("get", "crd", definition["metadata"]["name"], "-o", "json"))
    return found


def fields(definition: Definition) -> set[str]:
    return set(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"])


def store(plane: RunningControlPlane, definition: Definition, **values: str) -> None:
    version = f"{definition['spec']['group']}/v1"
    body = {"apiVersion": version, "kind": "Thing", "metadata": {"name": "kept"}, **values}
    plane.kubectl("create", "-f", "-", stdin=json.dumps(body))


def stored(plane: RunningControlPlane, definition: Definition) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plane.kubectl("get", definition["metadata"]["name"], "kept", "-o", "json"))
    return found


async def test_the_first_chart_creates_and_the_second_of_the_same_writes_nothing(
    plane: RunningControlPlane, api: Api, thing: Made
) -> None:
    assert await brought_up(api, thing(1, "a")) == "created, revision 1"
    before = live(plane, thing(1))["metadata"]["resourceVersion"]

    assert await brought_up(api, thing(1, "a")) == "is at revision 1 already"
    assert live(plane, thing(1))["metadata"]["resourceVersion"] == before


async def test_a_newer_chart_raises_what_helm_installed_and_objects_survive(
    plane: RunningControlPlane, api: Api, thing: Made
) -> None:
    plane.kubectl("create", "-f", "-", "--field-manager=helm", stdin=json.dumps(thing(1, "a")))
    plane.kubectl("wait", "--for=condition=Established", "crd", thing(1)["metadata"]["name"], "--timeout=30s")
    store(plane, thing(1), a="old")

    assert await brought_up(api, thing(2, "a", "b")) == "raised from revision 1 to 2"

    assert fields(live(plane, thing(2))) == {"a", "b"}
    assert stored(plane, thing(2))["a"] == "old"


async def test_an_older_chart_after_a_newer_one_shrinks_nothing(
    plane: RunningControlPlane, api: Api, thing: Made
) -> None:
    await brought_up(api, thing(2, "a", "b"))
    store(plane, thing(2), a="old", b="y")

    assert await brought_up(api, thing(1, "a")) == "is at revision 2, newer than ours (1); left as it is"

    assert fields(live(plane, thing(2))) == {"a", "b"}
    assert stored(plane, thing(2))["b"] == "y"


async def test_what_would_shrink_is_refused_by_path_and_nothing_is_written(
    plane: RunningControlPlane, api: Api, thing: Made
) -> None:
    await brought_up(api, thing(1, "a", "b", "c"))
    store(plane, thing(1), a="old", b="y", c="kept")
    before = live(plane, thing(1))["metadata"]["resourceVersion"]

    with pytest.raises(DefinitionProblem) as refused:
        await brought_up(api, thing(2, "a", "b", values=("x",)))

    assert refused.value.code == "SchemaWouldShrink"
    name = thing(1)["metadata"]["name"]
    assert refused.value.message.splitlines()[1:] == [
        f"  {name}: spec.versions[v1].b: enum value y is gone",
        f"  {name}: spec.versions[v1].c: is gone",
    ]
    assert live(plane, thing(1))["metadata"]["resourceVersion"] == before
    assert stored(plane, thing(1))["c"] == "kept"


async def test_what_others_wrote_beside_it_stays(plane: RunningControlPlane, api: Api, thing: Made) -> None:
    await brought_up(api, thing(1, "a"))
    plane.kubectl("annotate", "crd", thing(1)["metadata"]["name"], "note=theirs")

    await brought_up(api, thing(2, "a", "b"))

    assert live(plane, thing(2))["metadata"]["annotations"] == {"note": "theirs", ANNOTATION: "2"}


async def test_a_name_that_is_taken_is_told_in_words(api: Api, thing: Made) -> None:
    first, second = thing(1, "a"), copy.deepcopy(thing(1, "a"))
    await brought_up(api, first)
    second["metadata"]["name"] = f"others.{second['spec']['group']}"
    second["spec"]["names"]["plural"] = "others"

    with pytest.raises(DefinitionProblem, match="is already in use") as refused:
        await brought_up(api, second)

    assert refused.value.code == "NamesTaken"


def test_apply_says_one_line_for_each_of_our_kinds(
    plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))

    assert schema.main(["apply"]) == 0

    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0].partition(".")[0] for line in said] == ["localmodels", "modelroutes", "workerpools"]
    assert all("already" in line for line in said)


def test_apply_without_an_api_server_fails_in_words(
    plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")

    assert schema.main(["apply"]) == 1
    assert capsys.readouterr().err.startswith("ApiServerUnknown: ")
