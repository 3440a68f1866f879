"""What is put into a cell: a change of a slot's size restarts nothing, and what is not ours is not ours to change."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from roadstead.adapters.cells.observed import ToldApplication
from roadstead.adapters.cells.serve_config import changed, composed, rendered
from roadstead.domain.slot import Shape, Slot
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


def test_a_slot_on_the_processor_is_put_byte_for_byte_as_before_there_were_accelerators() -> None:
    """Otherwise an upgrade of the operator would restart every slot, and no earlier worker could run a new one."""
    assert json.dumps(rendered(a_slot(replicas=2))) == (
        '{"name": "team-a.assistant.01329751.node-a", "route_prefix": "/s/team-a.assistant.01329751.node-a", '
        '"import_path": "roadstead_worker.replica.application:build", '
        '"args": {"slot": "team-a.assistant.01329751.node-a", "model": "team-a/assistant", "variant": "q4", '
        '"node": "node-a", "content": "976809368fa2499adde5f8204d5213d85dc3dd84f86b38ac26ce02d788ae40c2", '
        f'"artifact": "sha256:{"a" * 64}", "engine": "LlamaCpp", "engine_image": "xllamacpp@1", '
        '"engine_args": ["--flash-attn"], "served_name": "assistant", "context_tokens": 4096, "concurrency": 2, '
        '"task": "Chat", "threads": 4, "attempt": 0}, '
        '"deployments": [{"name": "Slot", "num_replicas": 2, "max_ongoing_requests": 4, "max_queued_requests": 8, '
        '"graceful_shutdown_timeout_s": 600, "health_check_period_s": 5, "health_check_timeout_s": 10, '
        '"max_surge_percent": 0, '
        '"ray_actor_options": {"num_cpus": 0, "label_selector": {"roadstead.dev/node": "node-a"}}, '
        '"user_config": {"release": 1, "memory_bytes": 1073741824, "groups": 2}}]}'
    )


def test_a_slot_on_accelerators_is_put_with_its_groups_and_read_back_as_it_was() -> None:
    slot = on_accelerators(("GPU-a", "GPU-b"), ("GPU-c", "GPU-d"))
    application = an_application(slot)
    assert checked_applications([application.config]) == [application.config]
    assert application.config["args"]["devices"] == 2
    seen = ToldApplication.of(application).slot
    assert seen is not None
    assert (seen.devices, seen.device_bytes, seen.groups) == (2, 20 << 30, slot.groups)


def test_a_slot_on_accelerators_changes_its_groups_without_a_restart() -> None:
    slot = on_accelerators(("GPU-a", "GPU-b"), ("GPU-c", "GPU-d"))
    echo = rendered(slot)
    after = changed(echo, replace(slot, replicas=1, groups=(("GPU-c", "GPU-d"),), device_bytes=21 << 30))
    assert differences(echo, after) == {
        "deployments.0.num_replicas": 1,
        "deployments.0.user_config.groups": 1,
        "deployments.0.user_config.device_bytes": 21 << 30,
        "deployments.0.user_config.device_groups": [["GPU-c", "GPU-d"]],
    }


def on_accelerators(*groups: tuple[str, ...]) -> Slot:
    return replace(
        a_slot(replicas=len(groups)), shape=Shape(threads=1, devices=2), device_bytes=20 << 30, groups=groups
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
