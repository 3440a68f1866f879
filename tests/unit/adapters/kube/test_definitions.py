"""Definitions are brought up and never down; against a cluster in memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from roadstead.adapters.kube.crd import custom_resource_definitions
from roadstead.adapters.kube.definitions import DefinitionProblem, Overtaken, bring_up, packaged
from roadstead.adapters.kube.schema_revisions import ANNOTATION

Definition = dict[str, Any]


def definition(revision: int, *, name: str = "things.example.dev", fields: tuple[str, ...] = ("a",)) -> Definition:
    properties = {field: {"type": "string"} for field in fields}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
    }
    return {
        "metadata": {"name": name, "annotations": {ANNOTATION: str(revision)}},
        "spec": {
            "group": "example.dev",
            "scope": "Cluster",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [version],
        },
    }


class Cluster:
    """Definitions in memory. ``overtake`` others write just before each of so many writes of ours."""

    def __init__(self, *live: Definition, overtake: int = 0, established: bool = True) -> None:
        self.live: dict[str, Definition] = {}
        self.writes: list[str] = []
        self._version = 0
        self._overtake = overtake
        self._established = established
        for each in live:
            self._put(each)

    async def read(self, name: str) -> Definition | None:
        return copy.deepcopy(self.live.get(name))

    async def create(self, definition: Definition) -> None:
        self._come_between(definition)
        if definition["metadata"]["name"] in self.live:
            raise Overtaken
        self._put(definition)
        self.writes.append(f"create {definition['metadata']['name']}")

    async def apply(self, definition: Definition) -> None:
        self._come_between(definition)
        name = definition["metadata"]["name"]
        if self.live[name]["metadata"]["resourceVersion"] != definition["metadata"]["resourceVersion"]:
            raise Overtaken
        self._put(definition)
        self.writes.append(f"apply {name}")

    def _come_between(self, definition: Definition) -> None:
        if self._overtake:
            self._overtake -= 1
            self._put(self.live.get(definition["metadata"]["name"]) or definition)

    def _put(self, definition: Definition) -> None:
        self._version += 1
        kept = copy.deepcopy(definition)
        kept["metadata"]["resourceVersion"] = str(self._version)
        established = {"type": "Established", "status": "True" if self._established else "False"}
        kept.setdefault("status", {"conditions": [established]})
        self.live[kept["metadata"]["name"]] = kept

    def revision(self, name: str = "things.example.dev") -> str:
        return str(self.live[name]["metadata"]["annotations"][ANNOTATION])


async def brought_up(cluster: Cluster, *ours: Definition) -> list[str]:
    said: list[str] = []
    await bring_up(cluster, ours, say=said.append, established_seconds=0.2)
    return said


async def test_what_the_cluster_lacks_is_created() -> None:
    cluster = Cluster()

    assert await brought_up(cluster, definition(1)) == ["things.example.dev: created, revision 1"]
    assert cluster.writes == ["create things.example.dev"]


async def test_an_equal_revision_is_not_written() -> None:
    cluster = Cluster(definition(2))

    assert await brought_up(cluster, definition(2)) == ["things.example.dev: is at revision 2 already"]
    assert cluster.writes == []


async def test_a_lower_revision_is_raised() -> None:
    cluster = Cluster(definition(2))

    said = await brought_up(cluster, definition(3, fields=("a", "b")))

    assert said == ["things.example.dev: raised from revision 2 to 3"]
    assert cluster.revision() == "3"


@pytest.mark.parametrize("annotations", [{}, {ANNOTATION: "newest"}], ids=["none", "nonsense"])
async def test_a_definition_without_a_revision_is_older_than_all(annotations: dict[str, str]) -> None:
    bare = definition(1)
    bare["metadata"]["annotations"] = annotations
    cluster = Cluster(bare)

    await brought_up(cluster, definition(1))

    assert cluster.revision() == "1"


async def test_a_higher_revision_is_left_as_it_is_whatever_it_says() -> None:
    cluster = Cluster(definition(3, fields=("other",)))

    said = await brought_up(cluster, definition(2))

    assert said == ["things.example.dev: is at revision 3, newer than ours (2); left as it is"]
    assert cluster.writes == []


async def test_if_one_definition_would_shrink_none_is_written() -> None:
    cluster = Cluster(definition(1, fields=("a", "theirs")))

    with pytest.raises(DefinitionProblem) as refused:
        await brought_up(cluster, definition(1, name="first.example.dev"), definition(2))

    assert refused.value.code == "SchemaWouldShrink"
    assert "things.example.dev: spec.versions[v1].theirs: is gone" in refused.value.message
    assert cluster.writes == []


async def test_who_is_overtaken_looks_again() -> None:
    cluster = Cluster(definition(1), overtake=2)

    assert await brought_up(cluster, definition(2)) == ["things.example.dev: raised from revision 1 to 2"]
    assert cluster.writes == ["apply things.example.dev"]


async def test_two_that_create_at_once_both_succeed() -> None:
    cluster = Cluster(overtake=1)

    await brought_up(cluster, definition(1))

    assert cluster.writes == []
    assert cluster.revision() == "1"


async def test_who_is_always_overtaken_gives_up_with_a_remedy() -> None:
    with pytest.raises(DefinitionProblem, match="show-managed-fields") as refused:
        await brought_up(Cluster(definition(1), overtake=99), definition(2))

    assert refused.value.code == "DefinitionsContended"


async def test_a_definition_that_is_being_deleted_is_not_written() -> None:
    ending = definition(1)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster = Cluster(ending)

    with pytest.raises(DefinitionProblem) as refused:
        await brought_up(cluster, definition(2))

    assert refused.value.code == "DefinitionTerminating"
    assert cluster.writes == []


async def test_names_that_another_definition_has_are_told_in_the_api_servers_words() -> None:
    taken = definition(1)
    taken["status"] = {"conditions": [{"type": "NamesAccepted", "status": "False", "message": "th is taken"}]}

    with pytest.raises(DefinitionProblem, match="th is taken") as refused:
        await brought_up(Cluster(taken), definition(1))

    assert refused.value.code == "NamesTaken"


async def test_a_definition_that_is_never_served_is_told() -> None:
    with pytest.raises(DefinitionProblem) as refused:
        await brought_up(Cluster(established=False), definition(1))

    assert refused.value.code == "NotEstablished"


def test_what_is_packaged_is_what_the_models_make() -> None:
    by_name = {each["metadata"]["name"]: each for each in packaged()}

    assert by_name == {each["metadata"]["name"]: each for each in custom_resource_definitions()}
