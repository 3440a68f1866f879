"""What of the slots that are there may stay, before anything is dealt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from roadstead.domain.model import Model, ModelSpec
from roadstead.domain.release import Release
from roadstead.domain.snapshot import ObservedSlot
from roadstead.planner.nodes import Seat, closing, lost, selection_verdict
from roadstead.planner.quality import below_floor
from roadstead.planner.speed import seen_too_slow
from roadstead.planner.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The slots of one model."""

    staying: tuple[ObservedSlot, ...]
    leaving: tuple[ObservedSlot, ...]
    """Those whose content, node or policy has gone, or that were seen to be clearly too slow."""
    forbidden: frozenset[str]
    """Names of leaving slots whose variant must not be served any more, even if nothing else can serve."""


def look_at_standing(
    model: Model, *, release: Release, observed: tuple[ObservedSlot, ...], seats: Mapping[str, Seat], view: View
) -> Standing:
    """By name."""
    spec = model.checked_spec
    hashes = {content.hash for content in release.contents}
    forbidden = _forbidden(spec, observed, view.snapshot.releases.get(model.uid, ()))
    staying: list[ObservedSlot] = []
    leaving: list[ObservedSlot] = []
    for slot in sorted(observed, key=lambda slot: slot.name):
        seat = seats.get(slot.node)
        stays = (
            slot.content in hashes
            and slot.name not in forbidden
            and seat is not None
            and not lost(seat)
            and selection_verdict(seat, spec) is None
            and closing(seat, slot.engine_image) is None
            and not seen_too_slow(slot.content, seat.facts, spec)
        )
        (staying if stays else leaving).append(slot)
    return Standing(staying=tuple(staying), leaving=tuple(leaving), forbidden=forbidden)


def _forbidden(spec: ModelSpec, observed: tuple[ObservedSlot, ...], releases: tuple[Release, ...]) -> frozenset[str]:
    """Names of slots whose variant must not be served any more, whatever release they are of."""
    if spec.requirements.min_quality is None:
        return frozenset()
    poor = {
        content.hash for release in releases for content in release.contents if below_floor(content, spec) is not None
    }
    return frozenset(slot.name for slot in observed if slot.content in poor)
