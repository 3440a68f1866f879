"""On how many devices a model can be spread, and on which together.

Cutting matrices needs parts that are equal: whole heads, whole groups of weights that share a scale, and what the
kernel's tiles ask for. It also needs devices that are alike and really several: slices of a card cannot reach each
other's memory, and a shared card is one however many "GPUs" the cluster counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from roadstead.domain.inventory import Device, Sharing
from roadstead.domain.plan import Verdict
from roadstead.domain.quantity import in_words
from roadstead.domain.reasons import Reason
from roadstead.planner.suitability.capability import BuiltEngine, Path
from roadstead.planner.suitability.rows import PartitionRow, Spread
from roadstead_weights.facts import ModelFacts

_SIZES: Final = (1, 2, 4, 8, 16)
_EXPERT_WIDTH: Final = "expert_feed_forward_length"


class Part(NamedTuple):
    """What one device gets of a matrix."""

    name: str
    inputs: int
    outputs: tuple[int, ...]
    """Of each of those that are computed as one."""


def alike(devices: Iterable[Device]) -> tuple[tuple[Device, ...], ...]:
    """The devices by kind, in the order in which they come: a model is never spread over two kinds."""
    kinds: dict[tuple[object, ...], list[Device]] = {}
    for each in devices:
        kind = (each.vendor, each.product, each.compute_capability, each.architecture, each.mig_profile, each.sharing)
        kinds.setdefault(kind, []).append(each)
    return tuple(map(tuple, kinds.values()))


def as_counted(devices: Iterable[Device]) -> tuple[Device, ...]:
    """A device once for each time that the cluster hands it out."""
    return tuple(each for each in devices for _ in range(each.clients if each.sharing is not Sharing.NONE else 1))


def sizes(devices: Sequence[Device]) -> tuple[int, ...]:
    """Numbers of devices that are worth a try: powers of two, up to what the cluster counts of them."""
    return tuple(size for size in _SIZES if size <= len(as_counted(devices)))


def shape(facts: ModelFacts, *, build: BuiltEngine, path: Path, devices: Sequence[Device], size: int) -> Path | Verdict:
    """The path as it is on ``size`` of these devices, which are alike (0: on the processor)."""
    apart = _kept_apart(devices, size) if size > 1 else None
    if apart is not None:
        return apart
    ways = size if build.table.spread is Spread.TENSORS else 1
    uneven = _unequal(facts, ways) if ways > 1 else _too_few_layers(facts, size)
    if uneven is not None:
        return uneven
    for row in build.table.partitions:
        if path.backend in row.backends and facts.scheme in row.schemes and row.holds_for(build.numbers):
            broken = _broken(facts, row, max(1, ways)) if ways > 1 or not row.whole_blocks else None
            if broken is not None and not row.padded:
                return Verdict(reason=Reason.GROUP_SIZE_NOT_DIVISIBLE, message=f"{build.name}: {broken}")
            if broken is not None:
                path = replace(path, slow="; ".join(filter(None, (path.slow, f"{row.padded}: {broken}"))))
    return path


def parts(facts: ModelFacts, ways: int) -> Iterator[Part]:
    """Of each kind of matrix what one of ``ways`` devices gets: the first of a block by outputs, the last by inputs.

    A latent attention's matrices are cut in another manner, and left out.
    """
    hidden, heads = facts.embedding_length, facts.head_count
    if not facts.kv_lora_rank:
        kept = max(1, max(facts.head_count_kv, default=heads) // ways)
        queries, keys, values = heads * facts.key_length // ways, kept * facts.key_length, kept * facts.value_length
        yield Part("the attention's input", hidden, (queries, keys, values))
        yield Part("the attention's output", heads * facts.value_length // ways, (hidden,))
    for width in _widths(facts):
        yield Part("the feed-forward's input", hidden, (width // ways, width // ways))
        yield Part("the feed-forward's output", width // ways, (hidden,))


def _kept_apart(devices: Sequence[Device], size: int) -> Verdict | None:
    first = devices[0]
    if first.sharing is not Sharing.NONE:
        counted = len(as_counted(devices))
        return Verdict(
            reason=Reason.SHARED_DEVICE_OVERCOMMIT,
            message=f"needs {size} devices; the node's {counted} are {len(devices)} {first.product} "
            f"({in_words(first.memory_bytes)}), shared ({first.sharing}): more of them have no more memory",
        )
    if first.mig_profile:
        return Verdict(
            reason=Reason.MIG_NO_TENSOR_PARALLEL,
            message=f"needs {size} devices; slices of a card ({first.mig_profile}) cannot work on one model together",
        )
    return None


def _unequal(facts: ModelFacts, ways: int) -> Verdict | None:
    """Query heads are dealt out; key/value heads too, or, if there are fewer than devices, copied evenly."""
    kept = max(facts.head_count_kv, default=facts.head_count)
    even = facts.kv_lora_rank or (kept % ways == 0 if ways < kept else ways % kept == 0)
    for name, number, fits in (
        ("attention heads", facts.head_count, facts.head_count % ways == 0),
        ("key/value heads", kept, even),
        *(("columns of a feed-forward", width, width % ways == 0) for width in _widths(facts)),
    ):
        if not fits:
            return Verdict(
                reason=Reason.TP_NOT_DIVISIBLE,
                message=f"{number} {name} cannot be spread over {ways} devices",
            )
    return None


def _too_few_layers(facts: ModelFacts, size: int) -> Verdict | None:
    if size <= max(1, facts.block_count):
        return None
    return Verdict(
        reason=Reason.TP_NOT_DIVISIBLE, message=f"{facts.block_count} layers cannot be spread over {size} devices"
    )


def _broken(facts: ModelFacts, row: PartitionRow, ways: int) -> str | None:
    """The first part that is not divisible as the row wants it, in words."""
    group = max(1, facts.group_size)
    for part in parts(facts, ways):
        wanted = [("rows", part.inputs, group if row.whole_groups else 1, "the group size of")]
        wanted += [("columns", each, group if row.whole_blocks else 1, "the block size of") for each in part.outputs]
        wanted += [("rows", part.inputs, row.inputs, "the kernel's")]
        wanted += [("columns", sum(part.outputs), row.outputs, "the kernel's")]
        for what, number, divisor, name in wanted:
            if number % divisor:
                share = f", cut in {ways}," if ways > 1 else ""
                return f"the {number} {what} of {part.name}{share} are not divisible by {name} {divisor}"
    return None


def _widths(facts: ModelFacts) -> tuple[int, ...]:
    """Of a dense feed-forward and of an expert, as far as there are such."""
    experts = dict(facts.numbers).get(_EXPERT_WIDTH, 0)
    found = (facts.feed_forward_length, *(experts if isinstance(experts, tuple) else (experts,)))
    return tuple(dict.fromkeys(width for width in found if width))
