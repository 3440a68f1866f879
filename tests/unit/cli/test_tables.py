"""What `roadstead models`, `nodes` and `plan` show, word for word."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from roadstead.api import answers, telling, telling_thoughts
from roadstead.cli.explain_tables import print_explanation, print_fit
from roadstead.cli.fleet_tables import print_models, print_nodes, print_plan, print_what_if
from roadstead.cli.orphan import Freed, Left
from roadstead.cli.orphan_report import print_freed
from roadstead.domain.explanation import Explanation
from roadstead.domain.inventory import Device, Vendor
from roadstead.domain.model import FieldProblem, ModelKey, VariantSpec
from roadstead.domain.snapshot import EngineBuild, Pool
from roadstead.domain.supposition import Supposition
from roadstead.planner.explain import explain
from roadstead.planner.fleet import plan
from roadstead.planner.what_if import what_if
from roadstead.services.observe import observe
from roadstead.services.outlook import Planned
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode
from tests.fixtures.read_api import FILES, VARIANTS, two_nodes


@pytest.fixture
def fleet() -> MemoryFleet:
    fleet = two_nodes()
    fleet.apply("assistant", *VARIANTS, replicas=2)
    asyncio.run(fleet.settle())
    return fleet


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=False)


def planned(fleet: MemoryFleet) -> tuple[Planned, telling.Origin]:
    snapshot = observe(fleet.ports, fleet.resolutions)
    made = Planned(snapshot=snapshot, plan=plan(snapshot, fleet.now), at=fleet.now)
    return made, telling.origin(made, now=fleet.now + timedelta(seconds=3), leading=True)


def shown(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_models_are_a_row_each(fleet: MemoryFleet, console: Console) -> None:
    print_models(telling.model_list(*planned(fleet)), console)
    assert shown(console) == [
        "NAMESPACE  NAME       STATUS  READY  RELEASE  VARIANTS  NODES           MESSAGE",
        "team       assistant  Ready   2/2    1        bf16, q4  node-a, node-b  2 of 2 replicas answer",
        "Planned 3 s ago by the leader.",
    ]


def test_nodes_show_what_runs_there_and_what_is_wrong(fleet: MemoryFleet, console: Console) -> None:
    fleet.nodes["node-b"].ready = False
    fleet.nodes["node-b"].agent_answers = False
    print_nodes(telling.node_list(*planned(fleet)), console)
    head, first, second, silent, *_ = shown(console)
    assert head.split() == ["NODE", "POOL", "CELL", "CORES", "MEMORY", "FREE", "DISK", "FREE", "RUNS", "REMARKS"]
    assert first.startswith("node-a  local  cell-0  2      1.4 GiB of 2.0 GiB")
    assert first.endswith("1.0 TiB    team/assistant bf16 1/1")
    assert second.endswith("team/assistant q4 1/1    not Ready")
    assert silent.strip().startswith("agent: silent since 12:")


def test_nodes_have_a_column_of_accelerators_only_if_any_node_has_some(fleet: MemoryFleet, console: Console) -> None:
    gib = 1024**3
    card = Device(id="GPU-0", vendor=Vendor.NVIDIA, product="NVIDIA-L40S", memory_bytes=45 * gib, free_bytes=44 * gib)
    part = replace(card, product="NVIDIA-A30", mig_profile="1g.6gb", memory_bytes=6 * gib, free_bytes=gib)
    fleet.nodes["node-a"].devices = (card, replace(card, id="GPU-1", free_bytes=gib), part)
    del fleet.nodes["node-b"]
    fleet.nodes["node-c"] = MemoryNode(budget=gib, labels={"amd.com/gpu.vram": "64G"}, allocatable={"amd.com/gpu": 1})
    fleet.nodes["node-d"] = MemoryNode(budget=gib, allocatable={"habana.ai/gaudi": 8})
    made, origin = planned(fleet)
    agents = {name: facts for name, facts in made.snapshot.agents.items() if name != "node-c"}
    print_nodes(telling.node_list(replace(made, snapshot=replace(made.snapshot, agents=agents)), origin), console)
    head, first, second, third, *_ = shown(console)
    assert head.split()[4:10] == ["MEMORY", "FREE", "GPUS", "DISK", "FREE", "RUNS"]
    assert " 2 × NVIDIA-L40S 45.0 GiB, 1.0 GiB to 44.0 GiB free  " in first
    assert second.endswith(" 1 × NVIDIA-A30 1g.6gb 6.0 GiB, 1.0 GiB free")
    assert " 1 × AMD 64.0 GiB  " in third, "nobody tells what is free of it"
    assert "8 habana.ai/gaudi are offered" in "\n".join(shown(console))


def test_the_plan_says_why_each_node_runs_what_it_runs(fleet: MemoryFleet, console: Console) -> None:
    print_plan(telling.plan_answer(*planned(fleet)), console, actions=True)
    text = "\n".join(shown(console))
    assert text.startswith("team/assistant  2 of 2 replicas answer, release 1  Ready\n")
    assert "bf16     1 usual      500.0 MiB  1       Chosen   1 on node-a\n" in text
    assert "not on node-b: needs 616.6 MiB" in text
    assert "Nothing is to be done: the fleet is as planned." in text


def test_the_plan_shows_what_is_next_and_who_is_silent(console: Console) -> None:
    fleet = two_nodes()
    fleet.apply("assistant", *VARIANTS)
    fleet.ledger_answers = False
    fleet.gateway_answers = False
    print_plan(telling.plan_answer(*planned(fleet)), console, actions=True)
    text = "\n".join(shown(console))
    assert "SetFinalizer  team/assistant  set the finalizer, so that nothing is left behind at its end" in text
    assert "ledger: never answered" in text
    assert "gateway gateway-0: never answered" in text


def test_what_others_wrote_is_text_and_not_markup(fleet: MemoryFleet, console: Console) -> None:
    told = telling.model_list(*planned(fleet))
    row = told.items[0].model_copy(update={"message": "[red]boo[/] [/nothing] [link=x]"})
    print_models(told.model_copy(update={"items": (row,)}), console)
    assert "[red]boo[/] [/nothing] [link=x]" in "\n".join(shown(console))


def test_a_standby_says_that_it_is_one(fleet: MemoryFleet, console: Console) -> None:
    made, _ = planned(fleet)
    origin = telling.origin(made, now=fleet.now, leading=False)
    print_models(telling.model_list(made, origin), console)
    assert shown(console)[-1] == "Planned 0 s ago by a standby, which only tells what it would do."


def test_a_fleet_without_anything_says_so(console: Console) -> None:
    print_models(telling.model_list(*planned(MemoryFleet(nodes={}))), console)
    print_nodes(telling.node_list(*planned(MemoryFleet(nodes={}))), console)
    assert shown(console) == ["No models. Apply a LocalModel with kubectl.", "No nodes."]


def test_pools_tell_what_was_adopted_and_what_is_offered() -> None:
    fleet = two_nodes()
    fleet.pools = [
        Pool(
            name="cpu",
            node_selector=(("kind", "cpu"),),
            engines=(EngineBuild(engine="LlamaCpp", image="x@sha256:" + "a" * 64),),
        )
    ]
    told = telling.pool_list(*planned(fleet))
    assert [(pool.name, pool.nodes, pool.node_selector) for pool in told.items] == [("cpu", (), {"kind": "cpu"})]
    assert told.items[0].engines[0].offered.startswith("x@sha256:aaa")


def test_an_older_command_reads_what_a_newer_operator_says(fleet: MemoryFleet) -> None:
    told = telling.model_list(*planned(fleet)).model_dump(mode="json", by_alias=True)
    told["items"][0]["somethingNew"] = 1
    assert answers.ModelList.model_validate(told).items[0].name == "assistant"


@pytest.mark.parametrize(
    ("freed", "sentence"),
    [
        ({"deleting": True}, "Its deletion was asked for before, so it is gone now."),
        ({"deleting": False}, "It stays until it is deleted: kubectl delete localmodel -n team assistant"),
        ({"others": ("example.org/x",)}, "It is still held by example.org/x."),
        ({"removed": ()}, "team/assistant has no finalizer of Roadstead: nothing was changed."),
    ],
)
def test_orphan_says_what_was_done_and_what_happens_now(
    freed: dict[str, object], sentence: str, console: Console
) -> None:
    done: dict[str, object] = {
        "namespace": "team", "name": "assistant", "removed": ("roadstead.dev/finalizer",), "deleting": False,
        "others": (), "left": (Left(kind="Ledger", name="team/assistant", words="its history stays"),),
    }  # fmt: skip
    print_freed(Freed(**done | freed), console)  # type: ignore[arg-type]
    assert sentence in shown(console)[0]
    assert shown(console)[-1] == "  Ledger  team/assistant  its history stays"


def test_what_if_shows_what_would_move_and_what_would_find_no_place(fleet: MemoryFleet, console: Console) -> None:
    made, origin = planned(fleet)
    found = what_if(made.snapshot, fleet.now, Supposition(drained=("node-b",))).differences
    print_what_if(telling_thoughts.what_if_answer(made, origin, found), console)
    print_what_if(telling_thoughts.what_if_answer(made, origin, ()), console)
    assert shown(console) == [
        "NAMESPACE  NAME       STOPS             STARTS              WITHOUT A PLACE  WHY",
        "team       assistant  1 × q4 on node-b  1 × bf16 on node-a",
        "No other model would fare otherwise (0 stay as they are).",
        "Planned 3 s ago by the leader.",
        "No model would fare otherwise (1 stay as they are).",
        "Planned 3 s ago by the leader.",
    ]


def explained(fleet: MemoryFleet) -> tuple[telling.Origin, Explanation]:
    made, origin = planned(fleet)
    return origin, explain(made.snapshot, fleet.now, ModelKey("team", "assistant"))


def test_of_many_places_the_first_are_explained(console: Console) -> None:
    fleet = MemoryFleet(nodes={f"node-{n}": MemoryNode(budget=400 * MIB, files=dict(FILES)) for n in range(10)})
    fleet.apply("assistant", *VARIANTS, replicas=10)
    asyncio.run(fleet.settle())

    print_explanation(telling_thoughts.explain_answer(*explained(fleet)), console)

    assert shown(console)[0] == "team/assistant  10 of 10 replicas have a place"
    assert sum("rather than" in line for line in shown(console)) == 8
    assert shown(console)[-2:] == ["2 more places are told with --json.", "Planned 3 s ago by the leader."]


def test_what_finds_no_place_is_explained_in_the_table_alone(fleet: MemoryFleet, console: Console) -> None:
    fleet.apply("assistant", *VARIANTS, replicas=9)

    print_explanation(telling_thoughts.explain_answer(*explained(fleet)), console)
    print_fit(telling_thoughts.fit_answer(*explained(fleet)), console)

    lines = shown(console)
    assert lines[0].endswith(" of 9 replicas have a place")
    assert "Would only in part have a place now" in lines
    assert not any("fit nowhere" in line for line in lines)


def test_a_model_of_which_nothing_can_be_said_is_explained_by_that(fleet: MemoryFleet, console: Console) -> None:
    key = ModelKey("team", "assistant")
    problem = FieldProblem(path="spec.replicas", message="must be a number")
    fleet.models[key] = replace(fleet.models[key], spec=None, problems=(problem,))

    print_explanation(telling_thoughts.explain_answer(*explained(fleet)), console)

    assert shown(console)[1].startswith("  spec.replicas: must be a number")


def test_a_variant_that_can_run_nowhere_is_told_beside_its_figures(console: Console) -> None:
    fleet = two_nodes()
    fleet.apply("assistant", replace(VARIANTS[1], quality=0.9), VariantSpec(name="gone", source="file:///gone.gguf"))
    asyncio.run(fleet.settle())

    print_explanation(telling_thoughts.explain_answer(*explained(fleet)), console)

    assert shown(console)[1:4] == [
        "  VARIANT  SIZE       QUALITY    VERDICT         WHY",
        "  q4       100.0 MiB  0.9 given",
        "  gone     ?          ?          SourceNotFound  gone: file:///gone.gguf is not there on node-a",
    ]


def test_a_speed_that_is_only_expected_is_marked(console: Console) -> None:
    fleet = two_nodes()
    for node in fleet.nodes.values():
        node.reads = 12e9
    fleet.apply("assistant", *VARIANTS, replicas=2)
    asyncio.run(fleet.settle())

    print_explanation(telling_thoughts.explain_answer(*explained(fleet)), console)

    assert [line.split()[:5] for line in shown(console)[5:10]] == [
        ["VARIANT", "ON", "VERDICT", "TOKENS/S", "WHY"],
        ["bf16", "node-a", "Chosen", "22.9", "a"],
        ["bf16", "node-b", "InsufficientRAM", "≈", "22.9"],
        ["q4", "node-b", "Chosen", "114.4", "a"],
        ["q4", "node-a", "Outranked", "≈", "114.4"],
    ]
