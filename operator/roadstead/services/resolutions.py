"""What agents answered to ``what is behind this source?``, for as long as a LocalModel or a release of one names it.

Held in memory only: what was resolved for a release is frozen in its ControllerRevision, and anything newer is cheap to
ask again after a restart because agents remember the digests of files they have read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from roadstead.domain.model import Model
from roadstead.domain.release import Release
from roadstead.domain.snapshot import Resolution, ResolutionKey


class ResolutionBook:
    """Answers by question."""

    def __init__(self) -> None:
        self._answers: dict[ResolutionKey, Resolution] = {}

    def answers(self) -> Mapping[ResolutionKey, Resolution]:
        """A copy that later answers do not change."""
        return dict(self._answers)

    def record(self, key: ResolutionKey, answer: Resolution) -> bool:
        """Keep an answer; True if it says something new."""
        changed = self._answers.get(key) != answer
        self._answers[key] = answer
        return changed

    def keep_only(self, models: Iterable[Model], releases: Mapping[str, tuple[Release, ...]]) -> None:
        """Drop what neither a LocalModel nor a release asks any more.

        A release may be served on although the spec names other sources by now: while the ledger is away, for one.
        """
        sources = {variant.source for model in models if model.spec is not None for variant in model.spec.variants}
        sources |= {content.source for kept in releases.values() for release in kept for content in release.contents}
        self._answers = {key: answer for key, answer in self._answers.items() if key.source in sources}
