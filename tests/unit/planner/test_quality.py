"""What a variant is worth: the order of the ladder, and the floor below which nothing is served."""

from __future__ import annotations

import dataclasses
import math

import pytest

from roadstead.domain.model import FieldProblem, ModelSpec, VariantSpec
from roadstead.domain.plan import QualityOrigin
from roadstead.domain.release import Artifact, Content
from roadstead.planner.quality import best_first, figure, prior_divergence, quality
from roadstead_weights.gguf_types import FILE_TYPES
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.quality_records import a_record

BILLION = 10**9


def weights(quantization: str, *, bits: float, billions: float = 8.0) -> Artifact:
    found = artifact(f"{quantization}-{bits}-{billions}", mebibytes=1, quantization=quantization)
    (group,) = found.facts.tensors
    elements = int(billions * BILLION)
    group = dataclasses.replace(group, elements=elements, bytes=int(elements * bits / 8))
    facts = dataclasses.replace(found.facts, tensors=(group,))
    return dataclasses.replace(found, facts=facts, bytes=group.bytes)


def content(found: Artifact, name: str = "") -> Content:
    return Content(
        variant=name or found.facts.quantization,
        source="",
        quality=None,
        artifact=found,
        engine="LlamaCpp",
        engine_image="",
        task="Chat",
        served_name="assistant",
        context_tokens=512,
        concurrency=1,
    )


def spec(*contents: Content, **given: float) -> ModelSpec:
    variants = tuple(VariantSpec(name=each.variant, source="", quality=given.get(each.variant)) for each in contents)
    return ModelSpec(served_name="assistant", variants=variants)


def order(*contents: Content, **given: float) -> list[str]:
    ranked = best_first(contents, spec(*contents, **given))
    return [each.variant for each in ranked]


@pytest.mark.parametrize(
    ("quantization", "bits", "expected"),
    [("BF16", 16, 1.0), ("Q8_0", 8.5, 0.999), ("Q6_K", 6.56, 0.997), ("Q4_K_M", 4.83, 0.984), ("Q2_K", 2.96, 0.800)],
)
def test_the_prior_of_an_8b_model_is_what_was_published_for_llama_3(
    quantization: str, bits: float, expected: float
) -> None:
    found = content(weights(quantization, bits=bits))

    assert quality(found, spec(found)) == pytest.approx(expected, abs=0.001)


def test_the_same_type_costs_a_small_model_more() -> None:
    small, middle, large = (weights("Q4_K_M", bits=4.83, billions=size) for size in (0.135, 8, 70))

    divergences = [prior_divergence(each.facts) for each in (small, middle, large)]

    assert divergences == sorted(divergences, reverse=True)
    assert divergences[0] == pytest.approx(2.5 * divergences[1])  # measured for SmolLM2: 0.071


def test_every_file_type_has_a_prior_and_fewer_bits_are_never_better_among_kin() -> None:
    priors = {name: prior_divergence(weights(name, bits=4.0).facts) for name in FILE_TYPES.values()}

    assert all(value >= 0 for value in priors.values())
    for kin in (["Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"],
                ["IQ4_NL", "IQ4_XS", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS",
                 "IQ1_M", "IQ1_S"]):  # fmt: skip
        assert [priors[name] for name in kin] == sorted(priors[name] for name in kin)


@pytest.mark.parametrize("bits", [1.0, 2.2, 3.5, 4.5, 7.0, 12.0, 16.0, 32.0])
def test_a_type_that_nobody_measured_is_placed_by_its_bits(bits: float) -> None:
    unknown = prior_divergence(weights("Q9_NEW", bits=bits).facts)
    fewer = prior_divergence(weights("Q9_NEW", bits=bits - 0.5).facts)

    assert math.isfinite(unknown)
    assert fewer >= unknown


def test_of_equally_good_variants_the_one_that_reads_less_comes_first() -> None:
    bf16, q8, q4 = (content(weights(kind, bits=bits)) for kind, bits in (("BF16", 16), ("Q8_0", 8.5), ("Q4_0", 4.5)))

    assert order(bf16, q8, q4) == ["Q8_0", "BF16", "Q4_0"]


def test_given_figures_are_meant_as_they_are_however_close() -> None:
    bf16, q8 = (content(weights(kind, bits=bits)) for kind, bits in (("BF16", 16), ("Q8_0", 8.5)))

    assert order(bf16, q8, BF16=1.0, Q8_0=0.999) == ["BF16", "Q8_0"]
    assert order(bf16, q8, BF16=0.5) == ["Q8_0", "BF16"]


def test_the_order_of_the_spec_does_not_matter() -> None:
    kinds = [("BF16", 16), ("Q8_0", 8.5), ("Q6_K", 6.6), ("Q4_1", 5.0), ("Q4_0", 4.5)]
    contents = [content(weights(kind, bits=bits)) for kind, bits in kinds]

    assert order(*contents) == order(*reversed(contents))


# --- what was measured ------------------------------------------------------------------------------------------------


def test_the_specs_figure_comes_before_what_was_measured_and_that_before_what_is_usual() -> None:
    found = content(weights("Q4_0", bits=4.5))
    other = a_record("sha256:" + "9" * 64, divergence=1.0)
    record = a_record(found.artifact.digest, divergence=0.2)

    usual = dataclasses.replace(spec(found), measured=(other,))
    measured = dataclasses.replace(spec(found), measured=(other, record))
    given = dataclasses.replace(spec(found, Q4_0=0.5), measured=(record,))

    assert figure(found, usual) == (quality(found, spec(found)), QualityOrigin.USUAL)
    assert figure(found, measured) == (math.exp(-0.1), QualityOrigin.MEASURED)
    assert figure(found, given) == (0.5, QualityOrigin.GIVEN)


def test_what_an_older_release_was_given_comes_before_what_was_measured() -> None:
    found = dataclasses.replace(content(weights("Q4_0", bits=4.5)), quality=0.7)
    gone = ModelSpec(served_name="assistant", variants=(), measured=(a_record(found.artifact.digest, divergence=0.2),))

    assert figure(found, gone) == (0.7, QualityOrigin.GIVEN)


@pytest.mark.parametrize(("divergence", "first"), [(0.0049, "Q8_0"), (0.0051, "BF16")])
def test_measured_figures_are_equal_where_a_cpu_could_not_tell_them_apart(divergence: float, first: str) -> None:
    bf16, q8 = (content(weights(kind, bits=bits)) for kind, bits in (("BF16", 16), ("Q8_0", 8.5)))
    measured = (a_record(q8.artifact.digest, divergence=divergence),)

    ranked = best_first((bf16, q8), dataclasses.replace(spec(bf16, q8), measured=measured))

    assert ranked[0].variant == first


def test_a_measurement_turns_the_order_of_two_types_round() -> None:
    """As of a file that was quantized twice."""
    q5, q4 = (content(weights(kind, bits=bits)) for kind, bits in (("Q5_K_M", 5.7), ("Q4_K_M", 4.8)))
    measured = (a_record(q5.artifact.digest, divergence=0.0867), a_record(q4.artifact.digest, divergence=0.0708))

    ranked = best_first((q5, q4), dataclasses.replace(spec(q5, q4), measured=measured))

    assert order(q5, q4) == ["Q5_K_M", "Q4_K_M"]
    assert [each.variant for each in ranked] == ["Q4_K_M", "Q5_K_M"]


# --- the floor --------------------------------------------------------------------------------------------------------

GOOD = artifact("good", mebibytes=500, quantization="BF16", bits=16)
POOR = artifact("poor", mebibytes=100, quantization="Q2_K", bits=3)
LADDER = (VariantSpec(name="good", source="file:///good.gguf"), VariantSpec(name="poor", source="file:///poor.gguf"))


@pytest.fixture
def fleet() -> MemoryFleet:
    """A node for each variant; the small one has no room for the good one."""
    files = {"file:///good.gguf": GOOD, "file:///poor.gguf": POOR}
    return MemoryFleet(
        nodes={
            "node-a": MemoryNode(budget=700 * MIB, files=dict(files)),
            "node-b": MemoryNode(budget=400 * MIB, files=dict(files)),
        }
    )


async def test_below_the_floor_nothing_starts_even_where_nothing_else_fits(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", *LADDER, replicas=2, min_quality=0.9)

    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("good", 1)}
    rows = {row.name: row for row in fleet.statuses[key].variants}
    assert rows["poor"].verdict.reason == "QualityBelowFloor"
    assert "requirements.minQuality is 0.9" in rows["poor"].verdict.message
    assert fleet.condition(key, "Placed")[:2] == ("False", "InsufficientRAM")


async def test_a_floor_that_is_raised_stops_what_is_below_it_without_a_release(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", *LADDER, replicas=2)
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("good", 1), "node-b": ("poor", 1)}

    fleet.apply("assistant", *LADDER, replicas=2, min_quality=0.9)
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("good", 1)}
    assert fleet.release_number(key) == 1


async def test_what_is_below_a_raised_floor_takes_no_request_while_its_answers_end(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", *LADDER, replicas=2)
    await fleet.settle()
    (poor,) = (address.slot for address in fleet.routes[key].slots if address.variant == "poor")
    fleet.in_flight[poor] = 1

    fleet.apply("assistant", *LADDER, replicas=2, min_quality=0.9)
    await fleet.settle()

    assert poor in fleet.applications
    assert {address.slot: address.draining for address in fleet.routes[key].slots}[poor]


async def test_a_floor_that_is_lowered_lets_the_variant_back_in(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", *LADDER, replicas=2, min_quality=0.9)
    await fleet.settle()

    fleet.apply("assistant", *LADDER, replicas=2, min_quality=0.5)
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("good", 1), "node-b": ("poor", 1)}


async def test_what_is_measured_below_the_floor_stops_without_a_release(fleet: MemoryFleet) -> None:
    key = fleet.apply("assistant", *LADDER, replicas=2, min_quality=0.5)
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("good", 1), "node-b": ("poor", 1)}

    record = a_record(POOR.digest, divergence=2.0)
    fleet.apply("assistant", *LADDER, replicas=2, min_quality=0.5, measured=(record,))
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("good", 1)}
    assert fleet.release_number(key) == 1
    rows = {row.name: row for row in fleet.statuses[key].variants}
    assert rows["poor"].quality == 0.368
    assert rows["poor"].quality_origin is QualityOrigin.MEASURED
    assert "has a measured quality of 0.368, requirements.minQuality is 0.5" in rows["poor"].verdict.message


async def test_records_that_cannot_be_read_stop_nothing_and_are_told(fleet: MemoryFleet) -> None:
    problem = FieldProblem(path="metadata.annotations[x]", message="it is not JSON")
    key = fleet.apply("assistant", *LADDER, replicas=2, ignored=(problem,))

    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("good", 1), "node-b": ("poor", 1)}
    status, reason, message = fleet.condition(key, "Accepted")
    assert (status, reason) == ("True", "AnnotationIgnored")
    assert message == "the spec can be acted on; metadata.annotations[x] is ignored: it is not JSON"
