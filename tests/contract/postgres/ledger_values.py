"""Models, contents and worlds to record."""

from __future__ import annotations

from datetime import UTC, datetime

from roadstead.domain.model import Model, ModelKey
from roadstead.domain.plan import Incarnation, Placement
from roadstead.domain.release import Artifact, Content
from roadstead_weights.facts import Format, ModelFacts, TensorGroup

MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)


def a_model(name: str = "assistant", *, namespace: str = "team-a", uid: str = "uid-1") -> Model:
    return Model(key=ModelKey(namespace, name), uid=uid, resource_version="1", generation=3, created=MORNING, spec=None)


def a_content(letter: str = "a", *, variant: str = "q4", context_tokens: int = 4096, licence: str = "mit") -> Content:
    """``letter`` (a hex digit) tells artifacts apart."""
    facts = ModelFacts(
        format=Format.GGUF,
        architecture="llama",
        name="tiny",
        quantization="Q4_1",
        file_bytes=1000,
        tensors=(TensorGroup(type="Q4_1", elements=1600, bytes=1000),),
        block_count=2,
        context_length=8192,
        embedding_length=64,
        feed_forward_length=128,
        head_count=4,
        head_count_kv=(2, 2),
        key_length=16,
        value_length=16,
        vocabulary_size=100,
        licence=licence,
    )
    return Content(
        variant=variant,
        source=f"file:///models/{letter}.gguf",
        quality=None,
        artifact=Artifact(digest="sha256:" + letter * 64, bytes=1000, facts=facts),
        engine="LlamaCpp",
        engine_image="xllamacpp@1",
        engine_args=("--flash-attn",),
        task="Chat",
        served_name="assistant",
        context_tokens=context_tokens,
        concurrency=2,
    )


def an_incarnation(uid: str = "uid-1", *, name: str = "assistant") -> Incarnation:
    return Incarnation(key=ModelKey("team-a", name), uid=uid, created=MORNING)


def a_placement(
    slot: str = "team-a.assistant.aaaaaaaa.node-a", *, replicas: int = 1, model: str = "assistant"
) -> Placement:
    return Placement(
        slot=slot,
        model=ModelKey("team-a", model),
        content="f" * 64,
        node="node-a",
        replicas=replicas,
        memory_bytes=1 << 30,
    )
