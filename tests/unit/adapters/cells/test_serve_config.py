"""What is put into a cell: a change of a slot's size restarts nothing, and what is not ours is not ours to change."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from roadstead.adapters.cells.serve_config import changed, composed, rendered
from roadstead_worker.agent.serve_config import base_digest, checked_applications
from roadstead_worker.contract import SlotArgs, SlotUserConfig
from tests.contract.doors.states import a_slot, an_application


def test_a_slot_becomes_an_application_that_the_head_agent_lets_through() -> None:
    slot = a_slot(replicas=2)
    application = rendered(slot)
    assert checked_applications([application]) == [application]
    assert application["route_prefix"] == f"/s/{slot.name}"
    args = SlotArgs.model_validate(application["args"])
    assert (args.slot, args.model, args.content) == (slot.name, "team-a/assistant", slot.content.hash)
    assert (args.threads, args.concurrency, args.context_tokens) == (4, 2, 4096)
    (deployment,) = application["deployments"]
    assert deployment["ray_actor_options"] == {"num_cpus": 0, "label_selector": {"roadstead.dev/node": "node-a"}}
    assert deployment["num_replicas"] == 2
    assert deployment["max_ongoing_requests"] > args.concurrency
    assert deployment["max_surge_percent"] == 0
    assert SlotUserConfig.model_validate(deployment["user_config"]) == SlotUserConfig(
        release=1, memory_bytes=1 << 30, groups=2
    )


def test_a_slot_of_an_image_runs_on_workers_of_that_image_only() -> None:
    slot = a_slot()
    of_an_image = replace(slot, content=replace(slot.content, engine_image="sha256:" + "0123456789abcdef" * 4))
    (deployment,) = rendered(of_an_image)["deployments"]
    assert deployment["ray_actor_options"]["label_selector"] == {
        "roadstead.dev/node": "node-a",
        "roadstead.dev/image": "0123456789ab",
    }


def test_growing_a_slot_changes_nothing_that_restarts_it() -> None:
    echo = rendered(a_slot())
    echo["deployments"][0]["max_ongoing_requests"] = 99  # as an older version rendered it
    before = copy.deepcopy(echo)
    after = changed(echo, a_slot(replicas=3, release=5))
    assert echo == before
    assert differences(before, after) == {
        "deployments.0.num_replicas": 3,
        "deployments.0.user_config.release": 5,
        "deployments.0.user_config.groups": 3,
    }


def test_another_attempt_is_the_only_argument_that_changes() -> None:
    echo = rendered(a_slot())
    assert differences(echo, changed(echo, a_slot(attempt=2))) == {"args.attempt": 2}


def test_an_attempt_that_was_left_out_stays_left_out() -> None:
    echo = rendered(a_slot())
    del echo["args"]["attempt"]
    assert differences(echo, changed(echo, a_slot())) == {}


def test_putting_what_is_there_keeps_the_base() -> None:
    applications = [an_application(a_slot("a")), an_application(a_slot("b"))]
    put = composed(applications, put=(a_slot("b"),), remove=())
    assert base_digest(put) == base_digest(application.config for application in applications)


@pytest.mark.parametrize("remove", [(), ("nobody",)])
def test_without_names_everything_is_carried_over(remove: tuple[str, ...]) -> None:
    applications = [an_application(a_slot("a")), an_application(a_slot("b"), config={"name": "x", "odd": [None, 1.0]})]
    assert list(composed(applications, put=(), remove=remove)) == [each.config for each in applications]


def test_a_slot_that_is_put_and_removed_stays() -> None:
    slot = a_slot()
    assert [each["name"] for each in composed([an_application(slot)], put=(slot,), remove=(slot.name,))] == [slot.name]


def test_a_slot_that_is_being_torn_down_can_be_put_again() -> None:
    slot = a_slot()
    leaving = an_application(slot, config={}, status="DELETING")
    assert composed([leaving], put=(), remove=()) == ()
    assert composed([leaving], put=(slot,), remove=()) == (rendered(slot),)


def differences(before: object, after: object, path: str = "") -> dict[str, Any]:
    """Leaves of ``after`` that ``before`` has otherwise."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        parts: list[tuple[str, object, object]] = [(key, before[key], after[key]) for key in before]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        parts = [(str(index), *pair) for index, pair in enumerate(zip(before, after, strict=True))]
    else:
        return {} if before == after else {path: after}
    found: dict[str, Any] = {}
    for key, old, new in parts:
        found |= differences(old, new, f"{path}.{key}".lstrip("."))
    return found
