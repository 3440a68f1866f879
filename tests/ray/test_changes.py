"""Which change of an application leaves its replicas alone, which one tells them, and which one ends them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roadstead_worker.contract import NODE_LABEL
from tests.ray.serve_hand import ServeHand, pids, plain

pytestmark = pytest.mark.ray


async def test_a_changed_user_config_is_told_to_the_same_replica(serve: ServeHand) -> None:
    before = await serve.serving(plain("a"))
    await serve.put(plain("a", user_config={"said": "now"}))
    after = await serve.until(lambda seen: seen["a"].status == "RUNNING", "it is told")
    told = await serve.ask(after["a"])
    assert told["pid"] in pids(before["a"])
    assert told["calls"] == ["init", "app", "reconfigure", "reconfigure"]
    assert told["user_config"] == {"said": "now"}


@pytest.mark.parametrize(
    "changed",
    [
        {"max_queued_requests": 4},
        {"max_ongoing_requests": 3},
        {"graceful_shutdown_timeout_s": 6},
        {"health_check_period_s": 2},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_limits_change_without_a_new_replica(serve: ServeHand, changed: dict[str, Any]) -> None:
    before = await serve.serving(plain("a"))
    after = await serve.serving(plain("a", **changed))
    assert pids(after["a"]) == pids(before["a"])


async def test_more_and_fewer_replicas_leave_one_that_stays_as_it_was(serve: ServeHand) -> None:
    one = await serve.serving(plain("a"))
    two = await serve.serving(plain("a", replicas=2))
    assert pids(one["a"]) < pids(two["a"])
    assert len(set(two["a"].addresses)) == 2
    left = await serve.serving(plain("a"))
    assert pids(left["a"]) < pids(two["a"])


async def test_changed_arguments_end_the_replica_before_the_next_one_begins(serve: ServeHand, journal: Path) -> None:
    """Without a surge there is never a second copy, for which there would be no memory."""
    args = {"journal": str(journal), "attempt": 1}
    before = await serve.serving(plain("a", args=args))
    after = await serve.serving(plain("a", args=args | {"attempt": 2}))
    first, second = *pids(before["a"]), *pids(after["a"])
    told = journal.read_text().splitlines()
    begun = [f"{word} {{pid}}" for word in ("init", "app", "reconfigure")]
    assert [line for line in told if line.endswith(f" {first}")] == [
        *(line.format(pid=first) for line in begun),
        f"end {first}",
    ]
    assert told.index(f"end {first}") < told.index(f"init {second}")


async def test_another_label_moves_the_replica_to_the_node_that_has_it(serve: ServeHand) -> None:
    await serve.serving(plain("a"))
    moved = await serve.serving(plain("a", node="node-b"))
    assert [replica.node_ip for replica in moved["a"].replicas] == [serve.cell.nodes["node-b"].host]


async def test_a_label_beside_the_nodes_is_demanded_too(serve: ServeHand) -> None:
    """How a slot is kept to workers of its engine's image: all labels must be there."""
    options = {"num_cpus": 0, "label_selector": {NODE_LABEL: "node-a", "roadstead.dev/image": "none-has-it"}}
    await serve.put(plain("a", ray_actor_options=options), plain("b"))
    states = await serve.until(lambda seen: seen.get("b") and seen["b"].addresses, "the other one serves")
    assert not states["a"].addresses


async def test_a_failing_version_with_a_surge_leaves_the_old_one_serving_and_the_way_back_costs_nothing(
    serve: ServeHand, tmp_path: Path
) -> None:
    before = await serve.serving(plain("a", max_surge_percent=100))
    failing = plain("a", max_surge_percent=100, args={"fails_without": str(tmp_path / "never")})
    await serve.put(failing)
    failed = await serve.until(lambda seen: seen["a"].status == "DEPLOY_FAILED", "the new version has failed")
    assert (await serve.ask(failed["a"]))["pid"] in pids(before["a"])
    after = await serve.serving(plain("a", max_surge_percent=100))
    assert pids(after["a"]) == pids(before["a"])
