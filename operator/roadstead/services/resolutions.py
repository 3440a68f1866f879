"""What agents answered to ``what is behind this source?``, for as long as a LocalModel or a release of one names it.

Held in memory only: what was resolved for a release is frozen in its ControllerRevision, and anything newer is cheap to
ask again after a restart because agents remember the digests of files they have read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from roadstead.domain.model import Model
from roadstead.domain.release import Release
from roadstead.domain.snapshot import Resolution, ResolutionKey, Resolving, Unresolved


class ResolutionBook:
    """Answers by question."""

    def __init__(self) -> None:
        self._answers: dict[ResolutionKey, Resolution] = {}

    def answers(self) -> Mapping[ResolutionKey, Resolution]:
        """A copy that later answers do not change."""
        return dict(self._answers)

    def knows(self, key: ResolutionKey) -> bool:
        """Whether it was ever answered."""
        return key in self._answers

    def record(self, key: ResolutionKey, answer: Resolution) -> bool:
        """Keep an answer; True if it says something new."""
        known = self._answers.get(key)
        self._answers[key] = answer
        return not _says_the_same(known, answer)

    def settled_since(self, before: Mapping[ResolutionKey, Resolution]) -> frozenset[str]:
        """Sources about which an answer that stays has come in since ``before``."""
        return frozenset(
            key.source
            for key, answer in self._answers.items()
            if not isinstance(answer, Resolving) and not _says_the_same(before.get(key), answer)
        )

    def keep_only(self, models: Iterable[Model], releases: Mapping[str, tuple[Release, ...]]) -> None:
        """Drop what neither a LocalModel nor a release asks any more.

        A release may be served on although the spec names other sources by now: while the ledger is away, for one.
        """
        sources = {variant.source for model in models if model.spec is not None for variant in model.spec.variants}
        sources |= {content.source for kept in releases.values() for release in kept for content in release.contents}
        self._answers = {key: answer for key, answer in self._answers.items() if key.source in sources}


def _says_the_same(known: Resolution | None, answer: Resolution) -> bool:
    """A refusal that is repeated is no news."""
    if known is answer:
        return True
    if isinstance(known, Unresolved) and isinstance(answer, Unresolved):
        return (known.code, known.message) == (answer.code, answer.message)
    return known == answer
