"""What crosses a door between two versions of the product, as happens during every upgrade."""

from __future__ import annotations

from itertools import chain

import pytest
from pydantic import ValidationError

from roadstead_worker.contract import (
    Asked,
    CellState,
    LeaseRequest,
    NodeState,
    ResolveRequest,
    SlotArgs,
    SlotUserConfig,
    Told,
    Wire,
)

ARGS = {
    "slot": "s", "model": "team/s", "variant": "q4", "node": "n", "content": "c", "artifact": "sha256:" + "a" * 64,
    "engine": "LlamaCpp", "engine_image": "i", "served_name": "s", "context_tokens": 1, "concurrency": 1, "threads": 1,
}  # fmt: skip
STATE = {"digest": "d", "epoch": 1, "cell": "one", "base": "b", "reachable": True}


def test_more_than_this_version_knows_of_may_be_told() -> None:
    application = {"name": "a", "status": "RUNNING", "deployed_at": 12.5}
    newer = STATE | {"mood": "fine", "applications": [application]}
    told = CellState.model_validate(newer)
    assert [each.name for each in told.applications] == ["a"]


def test_more_than_this_version_knows_of_may_not_be_asked_for() -> None:
    with pytest.raises(ValidationError, match="haste"):
        ResolveRequest.model_validate({"source": "file:///a.gguf", "haste": "much"})


def test_everything_is_one_or_the_other() -> None:
    assert set(Wire.__subclasses__()) >= {Told, Asked}
    for shape in chain(Told.__subclasses__(), Asked.__subclasses__()):
        assert shape.model_config["frozen"], shape
    assert issubclass(NodeState, Told)


def test_what_runs_on_the_processor_is_asked_for_in_words_from_before_accelerators() -> None:
    """An agent or worker that does not know a field refuses it, so none may be there that asks for nothing."""
    lease = LeaseRequest(slot="s", index=0, content="c", artifact="sha256:" + "a" * 64, bytes=1)
    config = SlotUserConfig(release=1, memory_bytes=1, groups=1)
    assert set(lease.model_dump()) == {"slot", "index", "content", "artifact", "bytes"}
    assert set(config.model_dump()) == {"release", "memory_bytes", "groups"}
    assert SlotArgs.model_fields.keys() - SlotArgs.model_validate(ARGS).model_dump().keys() == {"devices"}


def test_accelerators_that_are_asked_for_cross_the_wire() -> None:
    lease = LeaseRequest(
        slot="s", index=0, content="c", artifact="sha256:" + "a" * 64, bytes=1, devices=("GPU-a",), device_bytes=2
    )
    config = SlotUserConfig(release=1, memory_bytes=1, groups=1, device_bytes=2, device_groups=(("GPU-a", "GPU-b"),))
    for asked in (lease, config, SlotArgs.model_validate(ARGS | {"devices": 2})):
        assert type(asked).model_validate_json(asked.model_dump_json()) == asked
