"""Parts that are not heard: what may still happen happens, nothing goes on missing knowledge, and status says so.

An agent, all agents, the cell, the ledger and the gateways are away, alone and together, while something happens. The
doors of a part that is away stay open here, so that a write that should not be made is found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product

import pytest

from roadstead.domain.model import ModelKey, VariantSpec
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.memory_pods import MemoryPods, image, pool

FILES = {
    f"file:///models/{name}.gguf": artifact(name, mebibytes=size, bits=bits)
    for name, size, bits in (("middle", 200, 6.6), ("small", 80, 4.5), ("own", 90, 4.5))
}
MIDDLE, SMALL, OWN = (
    VariantSpec(name=name, source=f"file:///models/{name}.gguf") for name in ("middle", "small", "own")
)
ASSISTANT, OTHER, NEW = (ModelKey("team", name) for name in ("assistant", "other", "new"))
IMAGES = (image("a"), image("b"))
TURNS = 14
"""Of an outage; less than a deletion's patience with gateways."""


def scale(replicas: int) -> Callable[[MemoryFleet], None]:
    return lambda fleet: void(fleet.apply("assistant", OWN, replicas=replicas))


def void(_: object) -> None:
    """An event has no answer."""


def lose_a_node(fleet: MemoryFleet) -> None:
    fleet.nodes["node-1"].ready = False


def adopt(fleet: MemoryFleet) -> None:
    fleet.pools = [replace(fleet.pools[0], engines=IMAGES[1:], adopt=IMAGES[1].identity)]


@dataclass(frozen=True)
class Event:
    """What happens while parts are away, and what of the assistant answers at least throughout."""

    happens: Callable[[MemoryFleet], None]
    least: int = 2
    needs: frozenset[str] = frozenset({"cell", "agents"})
    """Parts without which it cannot be carried out."""


EVENTS = {
    "nothing": Event(void),
    "a new model": Event(lambda fleet: void(fleet.apply("new", MIDDLE)), needs=frozenset({"cell", "agents", "ledger"})),
    "scaled up": Event(scale(3)),
    "scaled down": Event(scale(1), least=1, needs=frozenset({"cell"})),
    "another spec": Event(
        lambda fleet: void(fleet.apply("assistant", OWN, replicas=2, context_tokens=1024)),
        needs=frozenset({"cell", "agents", "ledger"}),
    ),
    "a better variant": Event(
        lambda fleet: void(fleet.apply("assistant", MIDDLE, OWN, replicas=2)),
        needs=frozenset({"cell", "agents", "ledger"}),
    ),
    "a node is lost": Event(lose_a_node, least=1),
    "deleted": Event(lambda fleet: fleet.delete(ASSISTANT), least=0, needs=frozenset({"cell", "gateways"})),
    "an image is adopted": Event(adopt, needs=frozenset({"cell", "agents", "ledger"})),
}
PARTS = {"agent": ("agent node-0",), "agents": tuple(f"agent node-{n}" for n in range(3)),
         "cell": ("cell",), "ledger": ("ledger",), "gateways": ("gateways",)}  # fmt: skip
OUTAGES = [
    tuple(part for part, away in (*([(agents, True)] if agents else []), ("cell", cell), ("ledger", ledger),
                                  ("gateways", gateways)) if away)
    for agents, cell, ledger, gateways in product(("", "agent", "agents"), *(((False, True),) * 3))
]  # fmt: skip


@dataclass
class Guard:
    """What must hold at every moment of the outage."""

    fleet: MemoryFleet
    away: frozenset[str]
    event: Event
    told: bool
    seen: int = 0
    said: set[str] = field(default_factory=set)

    def check(self) -> None:
        assert self.fleet.answering(ASSISTANT) >= self.event.least
        assert self.fleet.answering(OTHER) >= 1 or not self.fleet.nodes["node-1"].ready
        writes, self.seen = self.fleet.writes[self.seen :], len(self.fleet.writes)
        for write in writes:
            assert not self.forbidden(write), f"{write} while {sorted(self.away)} are away"
        for report in self.fleet.statuses.values():
            self.said |= {row.message for row in report.conditions if row.type == "Observed"}

    def forbidden(self, write: str) -> bool:
        kind, _, what = write.partition(" ")
        agents = "agents" in self.away or "agent" in self.away
        silent = {name for part in self.away for name in PARTS[part]}
        better = self.event is EVENTS["a better variant"]  # which of them is better there, only the node's agent knows
        return (
            (kind == "configure" and "cell" in self.away)
            or (better and any(word[:1] == "-" and f"agent {word.split('.')[-1]}" in silent for word in what.split()))
            or (kind == "configure" and " -" in write and "gateways" in self.away)
            or (kind in {"clear", "forget"} and "cell" in self.away)
            or (kind == "forget" and f"agent {what.split()[0]}" in silent)
            or (kind in {"number", "release", "ledger"} and "ledger" in self.away)
            or (kind == "remove" and ("cell" in self.away or "agents" in self.away))
            or (kind == "unprotect" and ("cell" in self.away or "agents" in self.away))
            or (kind == "fetch" and agents and f"agent {what.split()[0]}" in silent)
        )


async def settled_fleet(event: str) -> MemoryFleet:
    fleet = MemoryFleet(nodes={f"node-{n}": MemoryNode(budget=1500 * MIB, files=dict(FILES)) for n in range(3)})
    if event == "an image is adopted":
        fleet.pools, fleet.pods = [pool(IMAGES[0])], MemoryPods()
    fleet.apply("assistant", OWN, replicas=2)
    fleet.apply("other", SMALL)
    await fleet.settle(limit=200)
    assert fleet.answering(ASSISTANT) == 2
    return fleet


def end_of(fleet: MemoryFleet, *, exact: bool) -> dict[str, object]:
    """Where replicas are is not compared where an agent was away: they were placed without its node."""
    world = fleet.normalised()
    if exact:
        return world
    wanted = {content.artifact.digest for kept in fleet.revisions.values() for content in kept[1].contents}
    assert {digest for node in fleet.nodes.values() for digest in node.weights} <= wanted, "orphan weights"
    assert {app.slot.name for app in fleet.applications.values()} == set(fleet.rows.placements)
    ready = {
        key: (sum(count for _, count in fleet.running(key).values()), fleet.answering(key)) for key in fleet.models
    }
    said = {key: [(row.type, row.status, row.reason) for row in fleet.statuses[key].conditions] for key in fleet.models}
    return {"ready": ready, "said": said, "releases": world["releases"], "budgets": len(fleet.pods.budgets) > 0
            if fleet.pods else None}  # fmt: skip


WITHOUT: dict[tuple[str, bool], dict[str, object]] = {}
"""By event: the end of a world in which every part was heard throughout."""


async def without_outage(event: str, *, exact: bool) -> dict[str, object]:
    if (event, exact) not in WITHOUT:
        fleet = await settled_fleet(event)
        EVENTS[event].happens(fleet)
        await fleet.settle(limit=300)
        WITHOUT[event, exact] = end_of(fleet, exact=exact)
    return WITHOUT[event, exact]


def names_of(away: frozenset[str]) -> dict[str, str]:
    return {"agent": "the agent of node-0", "agents": "the agent of node-", "cell": "the head agent of cell-0",
            "ledger": "Postgres", "gateways": "gateway-0"}  # fmt: skip


def concerned(event: str, away: frozenset[str]) -> frozenset[str]:
    """Parts that something waits for or is blind to; what the plan reaches only with others is told once it does."""
    found = away & {"agent", "agents", "cell"}
    if event in {"a new model", "another spec", "a better variant", "an image is adopted"} and not away & {
        "agents",
        "agent",
    }:
        found |= away & {"ledger"}
    if event == "deleted" or (event in {"another spec", "a node is lost"} and not away - {"gateways"}):
        found |= away & {"gateways"}
    return found


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("told", [True, False], ids=["stale", "unknown"])
@pytest.mark.parametrize("outage", OUTAGES, ids=[" and ".join(outage) or "nothing" for outage in OUTAGES])
async def test_nothing_goes_on_missing_knowledge_and_all_of_it_settles_afterwards(
    outage: tuple[str, ...], *, told: bool, event: str
) -> None:
    away, exact = frozenset(outage), not {"agent", "agents"} & set(outage)
    fleet = await settled_fleet(event)
    if not told:
        fleet.restart_operator()
    for name in (name for part in outage for name in PARTS[part]):
        fleet.silence(name, told=told)
    guard = Guard(fleet, away, EVENTS[event], told, seen=len(fleet.writes))
    fleet.watch = guard.check
    EVENTS[event].happens(fleet)
    for _ in range(TURNS):
        await fleet.turn()
        fleet.step()
    check_what_happened(fleet, event, away)
    for part in concerned(event, away):
        words = next((said for said in guard.said if names_of(away)[part] in said), "")
        assert words, f"nobody says that {part} is away: {guard.said}"
        assert "has not answered since " in words
    fleet.watch = None
    fleet.silent.clear()

    await fleet.settle(limit=300)

    assert end_of(fleet, exact=exact) == await without_outage(event, exact=exact)


def check_what_happened(fleet: MemoryFleet, event: str, away: frozenset[str]) -> None:
    """What does not need a part that is away has happened meanwhile."""
    if EVENTS[event].needs & away or event == "an image is adopted":
        return
    match event:
        case "a new model":
            assert fleet.answering(NEW) == 1
        case "scaled up":
            assert fleet.answering(ASSISTANT) == 3
        case "scaled down":
            assert fleet.answering(ASSISTANT) == 1
        case "another spec":
            assert fleet.release_number(ASSISTANT) == 2
        case "a node is lost":
            assert sum(ready for node, (_, ready) in fleet.running(ASSISTANT).items() if node != "node-1") == 2
        case "deleted":
            assert not fleet.running(ASSISTANT)
        case _:
            pass


async def test_a_part_that_stays_away_is_told_once_with_the_time_of_its_last_answer() -> None:
    fleet = await settled_fleet("nothing")
    for part in ("cell", "ledger", "gateways", "agent node-0"):
        fleet.silence(part, told=True)
    since = f"{fleet.now:%Y-%m-%dT%H:%M:%SZ}"
    await fleet.turn()
    writes = len(fleet.writes)

    for _ in range(TURNS):
        fleet.step()
        await fleet.turn()

    assert fleet.writes[writes:] == []
    assert fleet.condition(ASSISTANT, "Observed") == (
        "False",
        "CellUnavailable",
        (
            f"the head agent of cell-0 has not answered since {since}: what it serves is left as it is; "
            f"the agent of node-0 has not answered since {since}: nothing starts and nothing is removed there"
        ),
    )
    assert fleet.condition(ASSISTANT, "Ready")[0] == "True"
