"""A kept release is read exactly as it was written, for ever."""

from __future__ import annotations

import dataclasses
import json
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadstead.adapters.kube import revisions
from roadstead.adapters.kube.store import Unreadable
from roadstead.domain.model import Model, ModelKey
from roadstead.domain.release import Artifact, Content, Release, shared
from roadstead_weights.facts import Format, ModelFacts, TensorGroup
from tests.fixtures.kept_release import a_release

MODEL = Model(
    key=ModelKey("team-a", "assistant"),
    uid="u1",
    resource_version="7",
    generation=1,
    created=datetime(2026, 11, 1, tzinfo=UTC),
    spec=None,
)

sizes = st.integers(0, 2**53)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
groups = st.builds(TensorGroup, type=texts, elements=sizes, bytes=sizes, repackable_bytes=sizes, looked_up_bytes=sizes)
facts = st.builds(
    ModelFacts,
    format=st.sampled_from(Format),
    architecture=texts,
    name=texts,
    quantization=texts,
    tensors=st.lists(groups, max_size=3).map(tuple),
    head_count_kv=st.lists(sizes, max_size=3).map(tuple),
    numbers=st.lists(st.tuples(texts, sizes | st.lists(sizes, max_size=3).map(tuple)), max_size=3).map(tuple),
    chat_template=st.booleans(),
    licence=texts,
    extra=st.dictionaries(texts, texts, max_size=3),
    **dict.fromkeys(
        (
            "file_bytes",
            "block_count",
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "head_count",
            "key_length",
            "value_length",
            "vocabulary_size",
            "vocabulary_merges",
            "sliding_window",
            "kv_lora_rank",
        ),
        sizes,
    ),
)
contents = st.builds(
    Content,
    variant=texts,
    source=texts,
    quality=st.none() | st.floats(0, 1),
    artifact=st.builds(Artifact, digest=texts, bytes=sizes, facts=facts),
    engine=texts,
    engine_image=texts,
    engine_args=st.lists(texts, max_size=3).map(tuple),
    task=texts,
    served_name=texts,
    context_tokens=sizes,
    concurrency=sizes,
)
releases = st.builds(Release, number=st.integers(1, 10**6), contents=st.lists(contents, max_size=3).map(tuple))


@given(releases)
def test_a_release_survives_the_api_server_unchanged(release: Release) -> None:
    obj = json.loads(json.dumps(revisions.to_object(MODEL, release)))

    read = revisions.from_object(obj).release

    assert read == release
    assert [content.artifact.facts.extra for content in read.contents] == [
        content.artifact.facts.extra for content in release.contents
    ]


@pytest.mark.parametrize(
    ("kept", "value"),
    [
        (revisions.KeptRelease, Release),
        (revisions.KeptContent, Content),
        (revisions.KeptArtifact, Artifact),
        (revisions.KeptFacts, ModelFacts),
        (revisions.KeptTensorGroup, TensorGroup),
    ],
)
def test_every_field_of_the_domain_is_kept(kept: type[revisions.Kept], value: type) -> None:
    assert list(kept.model_fields) == [field.name for field in dataclasses.fields(value) if field.init]


def test_what_an_earlier_version_wrote_can_be_read() -> None:
    """As format 1 was first written. Never change this text: such objects exist in clusters."""
    text = """{"number": 1, "format": 1, "digest": "sha256:x", "contents": [{"variant": "q4", "source": "file:///models/q4.gguf",
    "quality": 0.97, "artifact": {"digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "bytes": 98000000, "facts": {"format": "GGUF", "architecture": "llama", "name": "SmolLM2", "quantization": "Q4_1",
    "fileBytes": 98000000, "tensors": [{"type": "Q4_1", "elements": 134515008, "bytes": 90000000,
    "repackableBytes": 60000000}], "blockCount": 30, "contextLength": 8192, "embeddingLength": 576,
    "feedForwardLength": 1536, "headCount": 9, "headCountKv": [3, 3, 3], "keyLength": 64, "valueLength": 64,
    "vocabularySize": 49152, "slidingWindow": 0, "kvLoraRank": 0, "chatTemplate": true, "licence": "apache-2.0",
    "extra": {"general.base_model.0.name": "SmolLM2"}}}, "engine": "LlamaCpp", "engineImage": "xllamacpp==1",
    "engineArgs": ["--flash-attn"], "task": "Chat", "servedName": "assistant", "contextTokens": 4096,
    "concurrency": 1}]}"""

    assert revisions.from_record(json.loads(text)) == a_release(number=1)


def test_facts_that_a_newer_operator_has_read_are_passed_over_and_anything_else_is_refused() -> None:
    obj = json.loads(json.dumps(revisions.to_object(MODEL, a_release(number=1))))
    (content,) = obj["data"]["contents"]

    content["artifact"]["facts"]["somethingNew"] = 7
    assert revisions.from_object(obj).release == a_release(number=1)

    content["somethingNew"] = 7
    with pytest.raises(Unreadable, match="somethingNew"):
        revisions.from_object(obj)


def test_a_revision_says_whose_it_is_and_cannot_be_adopted() -> None:
    obj = revisions.to_object(MODEL, a_release(number=7))

    assert obj["metadata"]["name"] == "assistant-r7"
    (owner,) = obj["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("u1", True)
    assert revisions.from_object(obj).owner_uid == "u1"


def test_a_revision_that_cannot_be_read_says_where() -> None:
    obj = revisions.to_object(MODEL, a_release(number=7))
    del obj["data"]["contents"][0]["engine"]

    with pytest.raises(Unreadable, match=r"data\.contents\.0\.engine"):
        revisions.from_object(obj)


def test_releases_that_name_the_same_artifact_share_it_in_whichever_process() -> None:
    first = revisions.from_object(revisions.to_object(MODEL, a_release(number=1))).release.contents[0]
    second = revisions.from_object(revisions.to_object(MODEL, a_release(number=2, concurrency=2))).release.contents[0]
    travelled = pickle.loads(pickle.dumps(second))  # noqa: S301 - our own bytes

    assert first.artifact is second.artifact
    assert travelled.artifact is second.artifact


def test_artifacts_that_say_something_else_of_the_same_digest_stay_two() -> None:
    artifact = a_release(number=1).contents[0].artifact
    told_more = dataclasses.replace(artifact, facts=dataclasses.replace(artifact.facts, extra={"by": "somebody"}))

    assert shared(told_more).facts.extra == {"by": "somebody"}
    assert shared(artifact).facts.extra == artifact.facts.extra
