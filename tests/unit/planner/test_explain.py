"""Why a model runs where it runs: each variant on each kind of node, with the verdicts that placement goes by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.explanation import Explanation, Fit, NoSuchModel, Option
from roadstead.domain.model import FieldProblem, ModelKey, ModelSpec, PlacementPolicy, VariantSpec
from roadstead.domain.plan import QualityOrigin
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import EngineBuild, Pool, Resolved, Unresolved, answered
from roadstead.domain.supposition import Wish
from roadstead.planner.explain import explain, explain_fit
from roadstead.planner.fleet import plan
from roadstead.planner.rest import Rest
from roadstead.services.observe import observe
from tests.fixtures.memory_fleet import ENGINE, MIB, MemoryFleet, MemoryNode, artifact

LARGE = artifact("large", mebibytes=400, bits=16)
SMALL = artifact("small", mebibytes=80, bits=4.5)
FILES = {"file:///large.gguf": LARGE, "file:///small.gguf": SMALL}
LADDER = tuple(VariantSpec(name=source[8:13], source=source) for source in FILES)
KEY = ModelKey("team", "assistant")
NEW = ModelKey("team", "new")


def node(mebibytes: int, **more: object) -> MemoryNode:
    return MemoryNode(budget=mebibytes * MIB, files=dict(FILES), **more)  # type: ignore[arg-type]


async def settled(replicas: int = 1, **nodes: MemoryNode) -> MemoryFleet:
    fleet = MemoryFleet(nodes=nodes)
    fleet.apply("assistant", *LADDER, replicas=replicas)
    await fleet.settle()
    return fleet


def explained(fleet: MemoryFleet, key: ModelKey = KEY) -> Explanation:
    return explain(observe(fleet.ports, fleet.resolutions), fleet.now, key)


def fit(fleet: MemoryFleet, *variants: VariantSpec, **more: object) -> Explanation:
    wish = Wish(NEW, ModelSpec(served_name="new", variants=variants, **more))  # type: ignore[arg-type]
    return explain_fit(observe(fleet.ports, fleet.resolutions), fleet.now, Fit(wish=wish))


def rows(told: Explanation) -> list[tuple[str, tuple[str, ...], Reason]]:
    return [(option.variant, option.nodes, option.verdict.reason) for option in told.options]


def option_of(told: Explanation, variant: str, node: str) -> Option:
    return next(option for option in told.options if option.variant == variant and node in option.nodes)


async def test_each_variant_is_told_on_each_kind_of_node_and_nodes_that_are_alike_together() -> None:
    told = explained(await settled(a=node(600), b=node(300), c=node(310)))

    assert rows(told) == [
        ("large", ("a",), Reason.CHOSEN),
        ("large", ("c", "b"), Reason.INSUFFICIENT_RAM),
        ("small", ("a",), Reason.OUTRANKED),
        ("small", ("c", "b"), Reason.FITS),
    ]
    assert (told.wanted, told.pending, told.why) == (1, 0, "")


async def test_what_a_node_is_refused_for_is_what_status_says() -> None:
    fleet = await settled(2, a=node(600), b=node(300), c=node(120), d=node(900, unschedulable=True))

    told = explained(fleet)

    said = {row.name: row.verdict.message for row in fleet.statuses[KEY].variants}
    refused = [option for option in told.options if option.verdict.reason not in (Reason.CHOSEN, Reason.OUTRANKED)]
    assert len(refused) == 5
    for option in refused:
        assert f"not on {option.nodes[0]}: {option.verdict.message}" in said[option.variant]


async def test_a_variant_has_the_figures_by_which_it_is_weighed() -> None:
    told = explained(await settled(a=node(600)))

    large, small = told.rungs
    assert (large.variant, large.bytes, large.quality, large.origin) == ("large", LARGE.bytes, 1.0, QualityOrigin.USUAL)
    assert (small.variant, small.bytes, small.origin) == ("small", SMALL.bytes, QualityOrigin.USUAL)
    option = option_of(told, "large", "a")
    assert option.free_bytes == option.budget_bytes == 600 * MIB
    assert 500 * MIB < option.needed_bytes < 600 * MIB
    assert {term.name: term.value for term in option.terms} == pytest.approx(
        {"served": 1, "quality": 1, "rung": 0, "weights": 0.002}
    )
    assert option.worth == pytest.approx(2.002)


async def test_a_quality_that_the_spec_gives_is_told_as_given() -> None:
    fleet = MemoryFleet(nodes={"a": node(600)})
    fleet.apply("assistant", replace(LADDER[0], quality=0.9), LADDER[1])
    await fleet.settle()

    rungs = {rung.variant: rung for rung in explained(fleet).rungs}

    assert (rungs["large"].quality, rungs["large"].origin) == (0.9, QualityOrigin.GIVEN)


async def test_variants_that_are_as_good_lose_a_little_to_the_one_before() -> None:
    fleet = MemoryFleet(nodes={"a": node(600)})
    fleet.apply("assistant", replace(LADDER[0], quality=0.9), replace(LADDER[1], quality=0.9))
    await fleet.settle()

    told = explained(fleet)

    terms = [dict(option_of(told, rung.variant, "a").terms)["rung"] for rung in told.rungs]
    assert terms == pytest.approx([0, -0.001])


async def test_speed_is_told_as_measured_where_it_was_and_else_as_expected() -> None:
    told = explained(await settled(a=node(600, reads=8e9), b=node(300)))

    large, small = option_of(told, "large", "a"), option_of(told, "small", "a")
    assert (large.speed_basis, small.speed_basis) == ("measured", "expected")
    assert large.tokens_per_second == pytest.approx(8e9 / LARGE.bytes)
    assert small.tokens_per_second == pytest.approx(8e9 / SMALL.bytes)
    assert option_of(told, "small", "b").tokens_per_second is None


async def test_of_each_choice_the_three_best_that_were_passed_over_are_told_its_own_node_first() -> None:
    told = explained(await settled(2, a=node(1200), b=node(300), c=node(300)))

    first, second = told.choices
    assert (first.place[:3], second.place[:3]) == (("a", "large", 1), ("b", "small", 1))
    assert sum(term.value for term in first.terms) == pytest.approx(2.002)
    assert [(each.variant, each.nodes[0], each.verdict.reason) for each in second.passed_over] == [
        ("large", "a", Reason.OUTRANKED),  # worth most: its weights are there
        ("large", "b", Reason.INSUFFICIENT_RAM),
        ("small", "a", Reason.OUTRANKED),
    ]
    assert second.passed_over[0].verdict.message == "has a replica already: nodes without one come first"


async def test_a_node_that_has_no_room_for_another_replica_is_told_with_what_is_left() -> None:
    told = explained(await settled(2, a=node(530), b=node(300)))

    another = next(each for each in told.choices[1].passed_over if each.nodes == ("a",) and each.variant == "large")

    assert another.verdict.reason is Reason.INSUFFICIENT_RAM
    assert another.verdict.message.startswith("needs 516.6 MiB, 13.4 MiB of 530.0 MiB are free: ")


async def test_what_stays_although_it_would_not_be_started_there_again_is_chosen_and_says_so() -> None:
    fleet = await settled(a=node(600))
    fleet.nodes["a"].agent_answers = False

    option = option_of(explained(fleet), "large", "a")

    assert (option.verdict.reason, option.replicas) == (Reason.CHOSEN, 1)
    assert "; would not be started there now: its agent " in option.verdict.message


async def test_what_finds_no_place_is_told_with_the_reason() -> None:
    told = explained(await settled(2, a=node(530)))

    assert (told.wanted, told.pending) == (2, 1)
    assert told.why.startswith("1 of 2 replicas fit nowhere.")


async def test_a_file_that_nobody_has_looked_for_is_a_question_and_with_the_answer_a_verdict() -> None:
    fleet = await settled(a=node(600))
    fleet.nodes["b"] = node(600)
    snapshot = observe(fleet.ports, fleet.resolutions)

    told = explain(snapshot, fleet.now, KEY)

    large = option_of(told, "large", "b")
    assert (large.verdict.reason, large.verdict.message) == (
        Reason.RESOLVING,
        "nobody has looked for its file there yet",
    )
    assert {(key.node, key.source) for key in told.questions} == {("b", source) for source in FILES}
    there = {key: Resolved(artifact=FILES[key.source]) for key in told.questions}
    assert option_of(explain(answered(snapshot, there), fleet.now, KEY), "large", "b").verdict.reason is Reason.FITS
    gone = {key: Unresolved(code="SourceNotFound", message="no", at=fleet.now) for key in told.questions}
    after = explain(answered(snapshot, gone), fleet.now, KEY)
    assert option_of(after, "large", "b").verdict.reason is Reason.SOURCE_NOT_FOUND
    assert after.questions == ()


async def test_a_node_whose_agent_is_not_known_is_told_with_what_is_known() -> None:
    fleet = await settled(a=node(600), b=node(600))
    fleet.nodes["b"].agent_answers = False

    option = option_of(explained(fleet), "large", "b")

    assert option.verdict.reason is Reason.AGENT_UNAVAILABLE
    assert (option.free_bytes, option.budget_bytes, option.tokens_per_second) == (None, None, None)
    assert option.needed_bytes > LARGE.bytes


async def test_room_that_the_plan_gives_to_another_model_is_not_free() -> None:
    fleet = await settled(a=node(1200))
    before = option_of(explained(fleet), "large", "a").free_bytes
    other = fleet.apply("other", LADDER[0])
    for _ in range(2):  # its finalizer and the answer about its source, then its release
        await fleet.turn()

    assert fleet.running(other) == {}
    option = option_of(explained(fleet), "large", "a")
    assert (before, option.free_bytes) == (1200 * MIB, 1200 * MIB - option.needed_bytes)


async def test_a_model_that_there_is_not_is_named() -> None:
    with pytest.raises(NoSuchModel, match="team/nobody"):
        explained(await settled(a=node(600)), ModelKey("team", "nobody"))


async def test_of_a_spec_that_cannot_be_read_only_that_is_told() -> None:
    fleet = await settled(a=node(600))
    problem = FieldProblem(path="spec.replicas", message="is no number")
    fleet.models[KEY] = replace(fleet.models[KEY], spec=None, problems=(problem,))

    told = explained(fleet)

    assert told.options == ()
    assert told.why.startswith("spec.replicas: is no number")


async def test_a_pool_with_another_build_of_the_engine_is_judged_by_its_own() -> None:
    other = EngineBuild(engine="LlamaCpp", image="xllamacpp==2")
    fleet = MemoryFleet(
        nodes={"a": node(600, labels={"pool": "one"}), "b": node(600, labels={"pool": "two"})},
        pools=[
            Pool(name="one", node_selector=(("pool", "one"),), engines=(ENGINE,)),
            Pool(name="two", node_selector=(("pool", "two"),), engines=(other,)),
        ],
    )
    fleet.apply("assistant", LADDER[0])
    await fleet.settle()

    told = explained(fleet)

    # Both nodes offer the first build alone.
    assert rows(told) == [("large", ("a",), Reason.CHOSEN), ("large", ("b",), Reason.FITS)]


async def test_nothing_is_remembered_of_an_explanation() -> None:
    fleet = await settled(a=node(600))
    snapshot, rest = observe(fleet.ports, fleet.resolutions), Rest()
    before = plan(snapshot, fleet.now, rest)

    explain(snapshot, fleet.now, KEY, rest)
    wish = Wish(NEW, ModelSpec(served_name="new", variants=LADDER))
    explain_fit(snapshot, fleet.now, Fit(wish=wish), rest)

    assert plan(snapshot, fleet.now, rest) == before


async def test_a_model_that_nobody_applied_is_placed_in_thought_beside_what_there_is() -> None:
    fleet = await settled(a=node(600), b=node(300))

    told = fit(fleet, *LADDER)

    assert rows(told) == [
        ("large", ("a",), Reason.INSUFFICIENT_RAM),
        ("large", ("b",), Reason.INSUFFICIENT_RAM),
        ("small", ("b",), Reason.CHOSEN),
        ("small", ("a",), Reason.INSUFFICIENT_RAM),
    ]
    assert (told.model, told.pending) == (NEW, 0)
    assert fleet.running(NEW) == {}


async def test_what_nobody_has_looked_at_is_asked_first() -> None:
    fleet = await settled(a=node(600))
    source = "https://models.example/other.gguf?sig=SECRET"

    told = fit(fleet, VariantSpec(name="other", source=source))

    (rung,) = told.rungs
    assert rung.verdict is not None
    assert (rung.verdict.reason, told.options) == (Reason.RESOLVING, ())
    (question,) = told.questions
    assert question.source == source
    snapshot = answered(observe(fleet.ports, fleet.resolutions), {question: Resolved(artifact=SMALL)})
    wish = Wish(NEW, ModelSpec(served_name="new", variants=(VariantSpec(name="other", source=source),)))
    assert rows(explain_fit(snapshot, fleet.now, Fit(wish=wish)))[0][2] is Reason.INSUFFICIENT_RAM


async def test_a_file_by_its_header_is_judged_also_where_no_agent_answers() -> None:
    fleet = await settled(a=node(1000))
    fleet.nodes["a"].agent_answers = False
    source = "https://file.invalid/model.gguf"
    wish = Wish(NEW, ModelSpec(served_name="new", variants=(VariantSpec(name="file", source=source),)))
    ask = Fit(wish=wish, known=((source, SMALL),))

    silent = explain_fit(observe(fleet.ports, fleet.resolutions), fleet.now, ask)
    fleet.nodes["a"].agent_answers = True
    heard = explain_fit(observe(fleet.ports, fleet.resolutions), fleet.now, ask)

    assert rows(silent) == [("file", ("a",), Reason.AGENT_UNAVAILABLE)]
    assert silent.options[0].needed_bytes == heard.options[0].needed_bytes
    assert rows(heard) == [("file", ("a",), Reason.CHOSEN)]


async def test_a_format_that_no_pool_has_an_engine_for_is_said_of_the_variant() -> None:
    fleet = await settled(a=node(600))
    fleet.pools = [replace(fleet.pools[0], engines=())]

    (rung,) = fit(fleet, LADDER[1]).rungs

    assert rung.verdict is not None
    assert (rung.verdict.reason, rung.bytes) == (Reason.NO_FORMAT_ENGINE, SMALL.bytes)


async def test_what_would_be_placed_by_its_priority_says_so() -> None:
    fleet = await settled(a=node(600))

    told = fit(fleet, LADDER[0], placement=PlacementPolicy(priority=1))

    assert told.pending == 0
    assert told.options[0].verdict.reason is Reason.CHOSEN
    assert told.options[0].verdict.message.endswith("; models of lower priority give way to it")
