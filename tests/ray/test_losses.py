"""What is killed, and what of it comes back by itself."""

from __future__ import annotations

import os
import signal

import pytest

from tests.fixtures.patience import found
from tests.ray.serve_hand import ServeHand, anew, pids, plain

pytestmark = pytest.mark.ray

A = plain("a")
B = plain("b", node="node-b")


async def test_a_killed_replica_is_replaced_and_its_address_told_no_more(serve: ServeHand) -> None:
    before = await serve.serving(A, B)
    (pid,) = pids(before["a"])
    os.kill(pid, signal.SIGKILL)
    after = await serve.until(lambda seen: anew(seen["a"], before["a"]), "another one serves")
    assert (await serve.ask(after["a"]))["pid"] in pids(after["a"])
    assert after["b"] == before["b"]


async def test_a_replica_whose_health_check_fails_three_times_is_replaced(serve: ServeHand) -> None:
    before = await serve.serving(A)
    await serve.ask(before["a"], "sick")
    await serve.until(lambda seen: anew(seen["a"], before["a"]), "a healthy one serves")


async def test_the_controller_comes_back_and_finds_the_same_replicas(serve: ServeHand) -> None:
    before = await serve.serving(A, B)
    (controller,) = [pid for pid, command in serve.cell.pids().items() if "ServeController" in command]
    os.kill(controller, signal.SIGKILL)
    assert await serve.ask(before["a"])
    changed = plain("b", node="node-b", user_config={"said": "after"})
    await serve.until(lambda seen: seen == before, "all is told as it was")
    after = await serve.serving(A, changed)
    assert {name: pids(state) for name, state in after.items()} == {name: pids(each) for name, each in before.items()}
    assert (await serve.ask(after["b"]))["user_config"] == {"said": "after"}


async def test_a_lost_node_is_told_and_what_ran_there_waits_for_it(serve: ServeHand) -> None:
    before = await serve.serving(A, B)
    serve.cell.kill("node-b")
    await serve.until(lambda seen: not seen["b"].addresses, "its replica's address is told no more")
    assert (await serve.states())["a"] == before["a"]

    async def nodes_left() -> list[str] | None:
        told = [worker.node for worker in await serve.dashboard.living_workers()]
        return told if told != ["node-a", "node-b"] else None

    assert await found(nodes_left, "the node is told no more", seconds=30) == ["node-a"]
    serve.cell.start("node-b", *serve.cell.starts["node-b"])
    after = await serve.until(lambda seen: anew(seen["b"], before["b"]), "another one serves there", seconds=120)
    assert after["a"] == before["a"]
