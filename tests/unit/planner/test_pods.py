"""Agents and workers as Pods: made, adopted, moved, drained and given back, with the whole fleet in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from roadstead.domain.model import ModelKey, VariantSpec
from roadstead.domain.snapshot import Pool
from roadstead.domain.workload import Devices, PodRole
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.memory_pods import MemoryPods, image, pool

OLD, NEW = image("a"), image("b")
SMALL = artifact("small", mebibytes=100, quantization="Q4_0", bits=4.5)
FILES = {"file:///models/small.gguf": SMALL}
SMALL_VARIANT = VariantSpec(name="q4", source="file:///models/small.gguf")


def new_fleet(*names: str, devices: Devices = Devices.SHARED, budget: int = 1000) -> MemoryFleet:
    return MemoryFleet(
        nodes={name: MemoryNode(budget=budget * MIB, files=dict(FILES)) for name in names},
        pools=[pool(OLD, devices=devices)],
        pods=MemoryPods(),
    )


@pytest.fixture
def fleet() -> MemoryFleet:
    """Two nodes with room for some replicas each."""
    return new_fleet("node-a", "node-b")


def pods_of(fleet: MemoryFleet) -> MemoryPods:
    assert fleet.pods is not None
    return fleet.pods


def workers(fleet: MemoryFleet, node: str | None = None) -> dict[str, str]:
    """Names of the worker Pods with the hex digit of their image."""
    found = pods_of(fleet).of(PodRole.WORKER, node)
    return {name: pod.wish.image[-1] for name, pod in found.items() if not pod.deleting}


def images(fleet: MemoryFleet) -> dict[str, set[str]]:
    """By node: the hex digits of its workers' images."""
    return {node: set(workers(fleet, node).values()) for node in fleet.nodes}


def change_pool(fleet: MemoryFleet, **changes: object) -> None:
    (old,) = fleet.pools
    fleet.pools = [replace(old, **changes)]  # type: ignore[arg-type]


def offer(fleet: MemoryFleet, *, adopt: bool) -> None:
    change_pool(fleet, engines=(NEW,), adopt=NEW.identity if adopt else "")


async def until(fleet: MemoryFleet, done: Callable[[], bool], *, limit: int = 200) -> int:
    """Turns and seconds until something is so; how many it took."""
    for count in range(limit):
        if done():
            return count
        await fleet.turn()
        fleet.step()
    raise AssertionError(f"not within {limit} turns: {fleet.writes[-8:]}")


async def serve_through(fleet: MemoryFleet, key: ModelKey, *, turns: int = 60) -> int:
    """Turns and seconds; the fewest replicas that took new requests meanwhile."""
    fewest = fleet.serving(key)
    for _ in range(turns):
        await fleet.turn()
        fleet.step()
        fewest = min(fewest, fleet.serving(key))
    return fewest


# --- what is made ---


async def test_every_node_of_the_pool_gets_a_claim_an_agent_and_a_worker(fleet: MemoryFleet) -> None:
    await fleet.settle()

    pods = pods_of(fleet)
    assert pods.claims == {"roadstead-weights-node-a", "roadstead-weights-node-b"}
    assert set(pods.of(PodRole.AGENT)) == {"roadstead-agent-node-a", "roadstead-agent-node-b"}
    assert images(fleet) == {"node-a": {"a"}, "node-b": {"a"}}
    assert fleet.pool_condition("cpu", "Ready") == ("True", "Settled", "2 of 2 workers live")
    assert pods.budgets == set()


async def test_a_model_is_served_by_a_worker_of_the_adopted_image(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)

    await fleet.settle()

    (app,) = fleet.applications.values()
    assert app.slot.content.engine_image == OLD.identity
    assert fleet.condition(key, "Ready")[0] == "True"


async def test_engines_that_share_an_image_share_a_worker(fleet: MemoryFleet) -> None:
    change_pool(fleet, engines=(OLD, replace(OLD, engine="Another")))

    await fleet.settle()

    assert {node: len(workers(fleet, node)) for node in fleet.nodes} == {"node-a": 1, "node-b": 1}


async def test_a_pod_that_somebody_deleted_comes_back(fleet: MemoryFleet) -> None:
    await fleet.settle()
    before = {name: pod.uid for name, pod in pods_of(fleet).pods.items()}

    for name in before:
        pods_of(fleet).remove(name)
    await fleet.settle()

    after = {name: pod.uid for name, pod in pods_of(fleet).pods.items()}
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())


async def test_a_pod_that_has_ended_makes_room_for_its_successor(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    for pod in pods_of(fleet).pods.values():
        pod.finished = True

    await fleet.settle()

    assert not any(pod.finished for pod in pods_of(fleet).pods.values())
    assert len(pods_of(fleet).pods) == 4


async def test_a_node_that_is_gone_is_kubernetes_to_clean_up(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    del fleet.nodes["node-b"]

    await fleet.settle()

    assert not [write for write in fleet.writes if write.startswith("remove pod")]
    assert all(name.endswith(("node-a",)) or "node-a-" in name for name in pods_of(fleet).budgets)


async def test_an_address_of_a_node_that_went_while_nobody_looked_is_not_published_for_ever(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    del fleet.nodes["node-b"]
    fleet.applications = {name: app for name, app in fleet.applications.items() if app.slot.node != "node-b"}

    await fleet.settle()

    assert {address.node for address in fleet.routes[key].slots} == {"node-a"}


# --- adoption ---


async def test_the_first_image_is_adopted_and_another_is_only_offered(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    assert fleet.pool_condition("cpu", "ImageOffered")[:2] == ("False", "ImageAdopted")
    before = dict(pods_of(fleet).pods)
    offer(fleet, adopt=False)

    await fleet.settle()

    status, reason, message = fleet.pool_condition("cpu", "ImageOffered")
    assert (status, reason) == ("True", "ImageOffered")
    assert f"kubectl annotate workerpool cpu roadstead.dev/adopt={NEW.identity} --overwrite" in message
    assert pods_of(fleet).pods == before
    assert pods_of(fleet).adoptions == {"cpu": (OLD,)}


async def test_an_annotation_that_names_something_else_adopts_nothing_and_says_so(fleet: MemoryFleet) -> None:
    await fleet.settle()
    change_pool(fleet, engines=(NEW,), adopt=image("c").identity)

    await fleet.settle()

    assert pods_of(fleet).adoptions == {"cpu": (OLD,)}
    assert f"names {image('c').identity}, which is not offered" in fleet.pool_condition("cpu", "ImageOffered")[2]


async def test_the_same_image_from_a_mirror_moves_nothing(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    before, slots = dict(pods_of(fleet).pods), set(fleet.applications)
    mirrored = image("a", registry="mirror.lan")
    change_pool(fleet, engines=(mirrored,))

    await fleet.settle()

    assert pods_of(fleet).adoptions == {"cpu": (mirrored,)}
    assert (pods_of(fleet).pods, set(fleet.applications)) == (before, slots)
    assert fleet.release_number(key) == 1


async def test_an_adopted_image_serves_beside_the_old_one_before_that_goes(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    offer(fleet, adopt=True)

    fewest = await serve_through(fleet, key)

    assert fewest == 2
    assert images(fleet) == {"node-a": {"b"}, "node-b": {"b"}}
    assert {app.slot.content.engine_image for app in fleet.applications.values()} == {NEW.identity}
    assert fleet.release_number(key) == 2
    assert pods_of(fleet).budgets == {*workers(fleet), "roadstead-agent-node-a", "roadstead-agent-node-b"}


async def test_the_node_whose_new_worker_is_first_does_not_get_every_replica(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    offer(fleet, adopt=True)
    await until(fleet, lambda: images(fleet)["node-b"] == {"a", "b"})
    (late,) = (pod for pod in pods_of(fleet).pods.values() if (pod.wish.node, pod.label) == ("node-b", "b" * 12))
    late.age -= 40

    assert await serve_through(fleet, key, turns=120) == 2
    assert sorted(app.slot.node for app in fleet.applications.values()) == ["node-a", "node-b"]
    assert {app.slot.content.engine_image for app in fleet.applications.values()} == {NEW.identity}


async def test_the_way_back_is_to_adopt_the_earlier_image(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    offer(fleet, adopt=True)
    await fleet.settle(limit=120)

    change_pool(fleet, engines=(OLD,), adopt=OLD.identity)

    assert await serve_through(fleet, key) == 1
    assert fleet.release_number(key) == 1
    assert images(fleet) == {"node-a": {"a"}, "node-b": {"a"}}


async def test_exclusive_devices_turn_over_node_by_node(fleet: MemoryFleet) -> None:
    fleet = new_fleet("node-a", "node-b", "node-c", devices=Devices.EXCLUSIVE)
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=3)
    await fleet.settle()
    assert {app.slot.node for app in fleet.applications.values()} == set(fleet.nodes)
    offer(fleet, adopt=True)

    fewest, between = fleet.serving(key), 0
    for _ in range(150):
        await fleet.turn()
        fleet.step()
        fewest = min(fewest, fleet.serving(key))
        living = {raylet.node for raylet in pods_of(fleet).raylets()}
        between = max(between, len(set(fleet.nodes) - living))

    assert images(fleet) == {"node-a": {"b"}, "node-b": {"b"}, "node-c": {"b"}}
    assert fewest == 3
    assert between == 1
    assert {app.slot.content.engine_image for app in fleet.applications.values()} == {NEW.identity}


async def test_exclusive_devices_whose_slots_find_no_room_stay_and_say_so() -> None:
    fleet = new_fleet("node-a", "node-b", devices=Devices.EXCLUSIVE, budget=300)
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    offer(fleet, adopt=True)

    assert await serve_through(fleet, key) == 2

    assert images(fleet) == {"node-a": {"a"}, "node-b": {"a"}}
    assert fleet.condition(key, "Placed")[0] == "False"
    assert "is to be replaced and waits for" in fleet.pool_condition("cpu", "Ready")[2]
    assert fleet.release_number(key) == 2
    for node in fleet.nodes.values():
        node.budget = 600 * MIB  # for the old image: the release asks for the new one, which no node runs yet
    assert await serve_through(fleet, key, turns=100) == 2
    assert images(fleet) == {"node-a": {"b"}, "node-b": {"b"}}


async def test_an_image_that_never_comes_up_stops_at_the_first_node() -> None:
    fleet = new_fleet("node-a", "node-b", "node-c", devices=Devices.EXCLUSIVE)
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    pods_of(fleet).broken_images.add(NEW.identity)
    offer(fleet, adopt=True)

    assert await serve_through(fleet, key, turns=100) == 2

    assert sorted(len(found & {"a"}) for found in images(fleet).values()) == [0, 1, 1]
    change_pool(fleet, engines=(OLD,), adopt=OLD.identity)
    assert await serve_through(fleet, key, turns=100) == 2
    assert all(found == {"a"} for found in images(fleet).values())


# --- templates ---


async def test_a_changed_template_replaces_workers_that_serve_nobody_one_at_a_time(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    (home,) = fleet.running(key)
    before = workers(fleet)
    pods_of(fleet).workloads = replace(pods_of(fleet).workloads, worker_digest="w2")

    assert await serve_through(fleet, key) == 1

    kept = set(workers(fleet)) & set(before)
    assert kept == set(workers(fleet, home))
    assert "waits for team.assistant." in fleet.pool_condition("cpu", "Ready")[2]
    fleet.delete(key)
    await fleet.settle()
    assert not set(workers(fleet)) & set(before)


async def test_agents_follow_the_chart_one_node_at_a_time_and_engines_stay(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    before, slots = workers(fleet), {name: app.age for name, app in fleet.applications.items()}
    pods_of(fleet).workloads = replace(pods_of(fleet).workloads, agent_image="roadstead@sha256:bb")

    silent = 0
    for _ in range(40):
        await fleet.turn()
        fleet.step()
        silent = max(silent, sum(not pods_of(fleet).agent_runs(node) for node in fleet.nodes))

    agents = pods_of(fleet).of(PodRole.AGENT)
    assert {pod.wish.image for pod in agents.values()} == {"roadstead@sha256:bb"}
    assert silent == 1
    assert workers(fleet) == before
    assert slots.keys() == fleet.applications.keys()
    assert fleet.serving(key) == 2


async def test_a_broken_agent_stops_at_one_node_and_a_mended_one_goes_there_first(fleet: MemoryFleet) -> None:
    await fleet.settle()
    workloads = pods_of(fleet).workloads
    pods_of(fleet).broken_images.add("sha256:bb")
    pods_of(fleet).workloads = replace(workloads, agent_image="roadstead@sha256:bb")
    await serve_through(fleet, ModelKey("team", "none"), turns=30)
    assert [pods_of(fleet).agent_runs(node) for node in sorted(fleet.nodes)] == [False, True]

    pods_of(fleet).workloads = replace(workloads, agent_image="roadstead@sha256:cc")
    await fleet.settle()

    assert all(pods_of(fleet).agent_runs(node) for node in fleet.nodes)


async def test_an_agent_that_does_not_answer_is_made_anew_before_those_that_do(fleet: MemoryFleet) -> None:
    await fleet.settle()
    fleet.nodes["node-b"].agent_answers = False
    pods_of(fleet).workloads = replace(pods_of(fleet).workloads, agent_image="roadstead@sha256:bb")

    await fleet.turn()

    assert [write for write in fleet.writes if write.startswith("remove")] == ["remove pod roadstead-agent-node-b"]


# --- drains ---


async def test_a_drain_waits_for_the_slots_moves_them_and_passes(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    fleet.nodes["node-a"].unschedulable = True
    pods_of(fleet).drain("node-a")

    assert await serve_through(fleet, key) == 2

    assert pods_of(fleet).drained("node-a")
    assert set(fleet.running(key)) == {"node-b"}
    await fleet.settle()
    assert pods_of(fleet).drained("node-a"), "nothing comes back to a cordoned node"
    assert fleet.condition(key, "Ready")[0] == "True"


async def test_an_agent_is_let_go_after_its_nodes_worker(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    fleet.nodes["node-a"].unschedulable = True

    await fleet.settle()

    unprotected = [write for write in fleet.writes if write.startswith("unprotect") and "node-a" in write]
    assert [name.split("-")[1] for name in unprotected] == ["worker", "agent"]


async def test_a_drain_without_room_elsewhere_waits_and_says_so() -> None:
    fleet = new_fleet("node-a", "node-b", budget=300)
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    fleet.nodes["node-a"].unschedulable = True
    pods_of(fleet).drain("node-a")

    assert await serve_through(fleet, key) == 2

    assert not pods_of(fleet).drained("node-a")
    status, _, message = fleet.condition(key, "Placed")
    assert status == "False"
    assert "node-a: is cordoned" in message
    rows = {row.node: row.message for row in fleet.statuses[key].slots}
    assert rows == {"node-a": "until it has room elsewhere: node-a is cordoned", "node-b": ""}
    fleet.nodes["node-a"].unschedulable = False
    pods_of(fleet).evictions.clear()
    await fleet.settle()
    assert fleet.condition(key, "Placed")[0] == "True"


async def test_a_node_that_is_uncordoned_gets_its_pods_back(fleet: MemoryFleet) -> None:
    await fleet.settle()
    fleet.nodes["node-a"].unschedulable = True
    pods_of(fleet).drain("node-a")
    await until(fleet, lambda: pods_of(fleet).drained("node-a"))
    await fleet.settle()
    assert images(fleet)["node-a"] == set()

    pods_of(fleet).evictions.clear()
    fleet.nodes["node-a"].unschedulable = False
    await fleet.settle()

    assert images(fleet)["node-a"] == {"a"}
    assert pods_of(fleet).agent_runs("node-a")


async def test_a_worker_that_is_deleted_by_hand_hands_its_slots_over_first(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    (home,) = fleet.running(key)
    (name,) = workers(fleet, home)
    uid = pods_of(fleet).pods[name].uid
    pods_of(fleet).remove(name)

    assert await serve_through(fleet, key) == 1

    assert set(fleet.running(key)) == set(fleet.nodes) - {home}
    assert pods_of(fleet).pods[name].uid != uid


async def test_a_slots_pods_are_protected_before_it_is_put(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT)

    await fleet.settle()

    (put,) = [index for index, write in enumerate(fleet.writes) if write.startswith("configure +")]
    protects = [index for index, write in enumerate(fleet.writes) if write.startswith("protect")]
    assert len(protects) == 2
    assert max(protects) < put


# --- leaving the pool ---


async def test_a_node_that_leaves_the_pool_is_emptied_and_then_cleared(fleet: MemoryFleet) -> None:
    for node in fleet.nodes.values():
        node.labels = {"pool": "cpu"}
    change_pool(fleet, node_selector=(("pool", "cpu"),))
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    del fleet.nodes["node-a"].labels["pool"]

    assert await serve_through(fleet, key) == 2

    assert pods_of(fleet).drained("node-a")
    assert not [name for name in pods_of(fleet).budgets if "node-a" in name]


async def test_without_any_pool_nothing_is_taken_from_under_what_serves(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    (home,) = fleet.running(key)
    pools: list[Pool] = fleet.pools
    fleet.pools = []

    assert await serve_through(fleet, key) == 1

    assert set(images(fleet)[home]) == {"a"}
    fleet.pools = pools
    await fleet.settle()
    assert images(fleet) == {"node-a": {"a"}, "node-b": {"a"}}


# --- missing knowledge ---


@pytest.mark.parametrize("part", ["cell", "agents"])
async def test_nothing_is_removed_or_unprotected_on_missing_knowledge(fleet: MemoryFleet, part: str) -> None:
    key = fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    before, budgets = dict(pods_of(fleet).pods), set(pods_of(fleet).budgets)
    fleet.cell_answers = part != "cell"
    for node in fleet.nodes.values():
        node.agent_answers = part != "agents"
    pods_of(fleet).workloads = replace(pods_of(fleet).workloads, worker_digest="w2")
    offer(fleet, adopt=True)
    fleet.nodes["node-a"].unschedulable = True

    assert await serve_through(fleet, key) == 2

    assert before.items() <= pods_of(fleet).pods.items()
    assert budgets <= pods_of(fleet).budgets


@pytest.mark.parametrize("part", ["cell", "agents"])
async def test_a_worker_that_seems_vacant_stays_until_that_is_known(fleet: MemoryFleet, part: str) -> None:
    await fleet.settle()
    fleet.cell_told = part != "cell"
    for node in fleet.nodes.values():
        node.agent_answers = part != "agents"
    offer(fleet, adopt=True)

    await fleet.settle()

    assert images(fleet) == {"node-a": {"a", "b"}, "node-b": {"a", "b"}}
    fleet.cell_told = True
    for node in fleet.nodes.values():
        node.agent_answers = True
    await fleet.settle()
    assert images(fleet) == {"node-a": {"b"}, "node-b": {"b"}}


async def test_a_new_operator_takes_no_protection_away_before_it_has_heard_of_the_slots(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    before = set(pods_of(fleet).budgets)
    fleet.cell_told = False
    for app in fleet.applications.values():
        app.leases = 0  # engines that restart hold none for a moment

    await fleet.turn()

    assert pods_of(fleet).budgets == before


async def test_a_lease_without_a_slot_holds_its_worker(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT)
    await fleet.settle()
    (app,) = fleet.applications.values()
    key, node = app.slot.model, app.slot.node
    fleet.lingering.append((node, app.slot.name))
    offer(fleet, adopt=True)
    await serve_through(fleet, key)
    assert images(fleet)[node] == {"a", "b"}

    fleet.lingering.clear()
    await fleet.settle()

    assert images(fleet)[node] == {"b"}


async def test_a_budget_without_a_pod_is_removed(fleet: MemoryFleet) -> None:
    await fleet.settle()
    pods_of(fleet).budgets.add("roadstead-worker-node-z-12345678")

    await fleet.settle()

    assert pods_of(fleet).budgets == set()


async def test_a_settled_fleet_of_pods_writes_nothing(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", SMALL_VARIANT, replicas=2)
    await fleet.settle()
    before = len(fleet.writes)

    await serve_through(fleet, ModelKey("team", "assistant"), turns=50)

    assert fleet.writes[before:] == []
