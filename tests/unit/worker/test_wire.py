"""What crosses a door between two versions of the product, as happens during every upgrade."""

from __future__ import annotations

from itertools import chain

import pytest
from pydantic import ValidationError

from roadstead_worker.contract import Asked, CellState, NodeState, ResolveRequest, Told, Wire

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
