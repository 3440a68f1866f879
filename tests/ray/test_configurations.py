"""What a PUT of a configuration means: the whole list, taken literally, and answered before anything came of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from roadstead_worker.agent.ray_rest import RayAway, RayRefused
from tests.ray.plain import DEPLOYMENT
from tests.ray.serve_hand import ServeHand, pids, plain

pytestmark = pytest.mark.ray

A = plain("a")
B = plain("b", node="node-b")


async def test_nobody_reads_or_writes_without_the_cells_token(serve: ServeHand, tmp_path: Path) -> None:
    with pytest.raises(RayAway, match="answered 401"):
        await serve.with_token(None).serve()
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    with pytest.raises(RayAway, match="answered 403"):
        await serve.with_token(wrong).put({"applications": []})


async def test_every_application_serves_on_its_node_at_an_address_of_its_own(serve: ServeHand) -> None:
    states = await serve.serving(A, B)
    for name, node in (("a", "node-a"), ("b", "node-b")):
        assert states[name].replicas[0].node_ip == serve.cell.nodes[node].host
        told = await serve.ask(states[name])
        assert told["pid"] in pids(states[name])
        assert told["calls"] == ["init", "app", "reconfigure"]
    assert states["a"].addresses != states["b"].addresses


async def test_what_was_put_is_echoed_word_for_word(serve: ServeHand) -> None:
    states = await serve.serving(A, B)
    assert [states[name].config for name in ("a", "b")] == [A, B]


async def test_the_same_configuration_again_does_nothing(serve: ServeHand) -> None:
    before = await serve.serving(A, B)
    assert await serve.serving(A, B) == before


async def test_a_put_takes_away_what_it_does_not_list_and_leaves_alone_what_it_lists(serve: ServeHand) -> None:
    before = await serve.serving(A, B)
    after = await serve.serving(A, plain("c", node="node-b"))
    assert after["a"] == before["a"]


async def test_an_application_that_cannot_be_imported_is_accepted_and_fails_alone(serve: ServeHand) -> None:
    before = await serve.serving(A)
    await serve.put(A, plain("broken") | {"import_path": "tests.ray.nothing:build"})
    states = await serve.until(lambda seen: seen["broken"].status == "DEPLOY_FAILED", "it has failed")
    assert "No module named 'tests.ray.nothing'" in states["broken"].message
    assert states["a"] == before["a"]


async def test_a_failed_application_is_tried_again_only_when_its_arguments_change(
    serve: ServeHand, journal: Path, tmp_path: Path
) -> None:
    wanted = tmp_path / "wanted"
    args = {"journal": str(journal), "fails_without": str(wanted), "attempt": 1}
    await serve.put(plain("late", args=args))
    states = await serve.until(lambda seen: seen["late"].status == "DEPLOY_FAILED", "it has failed")
    assert f"{wanted} is not there yet" in states["late"].message, "the constructor's own words"
    tried = journal.read_text()
    assert tried.count("init") == 3, "three times for one replica"
    wanted.touch()
    await serve.put(plain("late", args=args), A)
    states = await serve.until(lambda seen: "a" in seen and seen["a"].addresses, "what was put beside it serves")
    assert states["late"].status == "DEPLOY_FAILED"
    assert journal.read_text() == tried
    await serve.serving(plain("late", args=args | {"attempt": 2}), A)


async def test_an_invalid_configuration_is_refused_and_the_one_before_stays(serve: ServeHand) -> None:
    before = await serve.serving(A)
    for invalid in ([A, plain("b") | {"route_prefix": A["route_prefix"]}], [A, plain("b", replicas=0)]):
        with pytest.raises(RayRefused):
            await serve.put(*invalid)
    assert await serve.states() == before


async def test_an_unknown_key_vanishes_without_a_word(serve: ServeHand) -> None:
    """Why the head agent refuses what it does not know."""
    states = await serve.serving(plain("a", max_surge_percentage=100) | {"argz": {}})
    assert states["a"].config == A


async def test_where_replicas_listen_is_settled_by_the_first_configuration(serve: ServeHand) -> None:
    """Later ones are accepted and change nothing."""
    before = await serve.serving(A)
    await serve.put(A, plain("b"), http_options={"host": serve.cell.nodes["node-a"].host, "port": 1})
    after = await serve.until(lambda seen: "b" in seen and seen["b"].addresses, "another application serves")
    assert after["a"] == before["a"]
    assert await serve.ask(after["b"])


async def test_an_application_for_a_node_that_is_not_there_waits_without_failing(serve: ServeHand) -> None:
    await serve.put(A, plain("lost", node="node-z"))
    states = await serve.until(lambda seen: seen.get("a") and seen["a"].addresses, "the other one serves")
    assert states["lost"].status == "DEPLOYING"
    assert not states["lost"].addresses
    moved = await serve.serving(A, plain("lost", node="node-b"))
    assert pids(moved["a"]) == pids(states["a"])


async def test_living_nodes_are_told_with_their_labels(serve: ServeHand) -> None:
    assert [worker.node for worker in await serve.dashboard.living_workers()] == ["node-a", "node-b"]


async def test_an_application_that_is_put_again_while_it_is_torn_down_serves(serve: ServeHand) -> None:
    """By the replica it had or by another: Ray takes back what it has not yet told to end."""
    await serve.serving(A)
    await serve.put()
    await serve.until(lambda seen: not seen.get("a") or not seen["a"].config, "it is being torn down")
    states = await serve.serving(A)
    assert await serve.ask(states["a"])


def without(application: dict[str, Any], option: str) -> dict[str, Any]:
    changed = copy.deepcopy(application)
    del changed["deployments"][0][option]
    return changed


async def test_a_user_config_that_is_left_out_leaves_the_old_one_in_force(serve: ServeHand) -> None:
    """Why it is always sent."""
    said = {"said": "before"}
    before = await serve.serving(plain("a", user_config=said))
    after = await serve.serving(without(plain("a"), "user_config"))
    assert pids(after["a"]) == pids(before["a"])
    assert (await serve.ask(after["a"]))["user_config"] == said
    assert after["a"].config["deployments"][0]["name"] == DEPLOYMENT
