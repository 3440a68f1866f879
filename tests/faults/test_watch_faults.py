"""What the operator makes of watches that end, fall silent, tell things twice, and of lists that are old."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest

from roadstead.adapters.kube.api import MERGE
from tests.faults.rig.kube_calls import Match
from tests.faults.rig.kube_faults import Answer, Delay, Effect, Expired, Fault, HalfOpen, Repeated, Swapped, refusal
from tests.faults.rig.scene import Scene

pytestmark = pytest.mark.faults

MODELS = Match(resource="localmodels")
WATCHES = Match(verbs=("watch",))


async def test_an_edit_made_while_the_watch_is_gone_is_not_lost(scene: Scene) -> None:
    """The version to watch from is no longer known (410), and the change came in the gap."""
    with scene.kube.failing(
        Fault(match=Match(verbs=("watch",), resource="localmodels"), effect=refusal(503)),
        Fault(match=Match(verbs=("list",), resource="localmodels"), effect=refusal(503)),
    ):
        scene.kube.end_watches(MODELS, expired=True)
        await scene.model().scale(3)
        await scene.model("another").create(replicas=1)
    await scene.until(scene.model().serves(3), "the edit is seen")
    await scene.until(scene.model("another").serves(1), "the new one too")
    with scene.kube.failing(Fault(match=WATCHES, effect=Expired(), times=6)):
        scene.kube.end_watches(WATCHES)
        await scene.model().scale(2)
        await scene.until(scene.model().serves(2), "410 from every watch")


@pytest.mark.parametrize("resource", ["localmodels", "nodes"])
async def test_a_watch_that_is_half_open_is_found_out(resting: Scene, resource: str) -> None:
    """Its silence is bounded by a setting, 75 s by default; here 3 s."""
    scene = resting
    scene.operator.environment = {**scene.operator.environment, "ROADSTEAD_WATCH_SILENCE_SECONDS": "3"}
    await scene.operator.start()
    await scene.model().create(replicas=3)
    await scene.until(scene.model().serves(3), "the model serves", seconds=30)
    cordoned = next(iter(scene.fleet.nodes))
    began = asyncio.get_running_loop().time()
    with scene.kube.failing(Fault(match=Match(verbs=("watch",), resource=resource), effect=HalfOpen(), times=1)):
        if resource == "localmodels":
            await scene.model().scale(2)
            seen = scene.model().serves(2)
        else:
            await cordon(scene, cordoned)
            seen = partial(node_is_avoided, scene, cordoned)
        await scene.until(seen, "what the watch did not tell is seen", seconds=15)
    if resource == "nodes":
        await cordon(scene, cordoned, ended=True)
    assert scene.kube.made(Match(verbs=("watch",), resource=resource))[-1].at > began


async def cordon(scene: Scene, node: str, *, ended: bool = False) -> None:
    """What only the API server knows of a node."""
    body = {"spec": {"unschedulable": None if ended else True}}
    await scene.api.request("PATCH", f"/api/v1/nodes/{node}", body=body, content_type=MERGE)


async def node_is_avoided(scene: Scene, name: str) -> bool:
    return not any(app.args.node == name for cell in scene.fleet.cells.values() for app in cell.applications.values())


@pytest.mark.parametrize("effect", [Repeated(), Swapped()], ids=["repeated", "swapped"])
async def test_events_told_twice_or_in_another_order_lead_to_the_same_world(resting: Scene, effect: Effect) -> None:
    scene = resting
    await scene.operator.start()
    with scene.kube.failing(Fault(match=WATCHES, effect=effect)):
        await scene.model().create()
        await scene.until(scene.model().serves(2), "the model serves", seconds=30)
        await scene.model().scale(3)
        await scene.model("another").create(replicas=1)
        await scene.until(scene.model().serves(3), "it is scaled")
        await scene.until(scene.model("another").serves(1), "the other serves")
        assert scene.slots() == {"assistant": 3, "another": 1}
        await scene.model().delete()
        await scene.until(scene.model().gone, "it is gone")
    assert scene.slots() == {"another": 1}
    created = [str(call) for call in scene.kube.calls if call.verb == "create" and call.counted]
    assert len(created) == 4, created  # a release and a route for each


@pytest.mark.parametrize("resource", ["modelroutes", "controllerrevisions", "localmodels", "nodes"])
async def test_a_list_older_than_our_own_writes_creates_and_removes_nothing(resting: Scene, resource: str) -> None:
    scene = resting
    path = {
        "modelroutes": f"/apis/roadstead.dev/v1alpha1/namespaces/{scene.namespace}/modelroutes",
        "localmodels": f"/apis/roadstead.dev/v1alpha1/namespaces/{scene.namespace}/localmodels",
        "controllerrevisions": f"/apis/apps/v1/namespaces/{scene.namespace}/controllerrevisions",
        "nodes": "/api/v1/nodes",
    }[resource]
    old = await scene.api.request("GET", path)
    await scene.operator.start()
    await scene.model().create()
    await scene.until(scene.model().serves(2), "the model serves", seconds=30)
    await scene.model("another").create(replicas=1)
    await scene.until(scene.model("another").serves(1), "the other serves")
    before, asked = len(scene.kube.calls), scene.fleet.calls.number
    stale = Answer(200, json.dumps(old).encode())
    # What a new watch tells from the old version on would mend it before anybody looked.
    late = Fault(match=Match(verbs=("watch",), resource=resource), effect=Delay(2.0))
    with scene.kube.failing(Fault(match=Match(verbs=("list",), resource=resource), effect=stale, times=1), late):
        assert scene.kube.end_watches(Match(resource=resource), expired=True)
        await scene.until(partial(listed_again, scene, resource, before), "the old list was read")
        await scene.model("another").scale(2)
        await scene.until(scene.model("another").serves(2), "turns go on")
    made = {str(call) for call in scene.kube.calls[before:] if call.counted}
    route = f"{scene.namespace}/{scene.namespace}.another"
    assert made <= {f"patch localmodels/status {scene.namespace}/another", f"patch modelroutes {route}"}
    assert scene.slots() == {"assistant": 2, "another": 2}
    assert scene.fleet.calls.number - asked <= 2  # the other's weights and its slot


async def listed_again(scene: Scene, resource: str, since: int) -> bool:
    return bool(scene.kube.made(Match(verbs=("watch",), resource=resource), since=since))
