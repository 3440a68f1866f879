"""Resolving: what is behind each rung's source, and whom to ask when that is not known.

Resolving is done once. A source that an earlier release of the same object resolved keeps that artifact, so
``@main``, a tag or a path stays what it was until the spec says otherwise, and a restarted operator asks nobody.
``file://`` is asked of every selected node, because each has files of its own; everything else of one node, because
the answer is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zlib import crc32

from roadstead.domain.model import Model, ModelSpec, PlacementPolicy, VariantSpec
from roadstead.domain.plan import Resolve, Verdict
from roadstead.domain.quantity import in_words
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Artifact, Release
from roadstead.domain.snapshot import FleetSnapshot, Resolution, ResolutionKey, Resolved, Resolving, Unresolved
from roadstead.domain.sources import without_secrets
from roadstead.planner.nodes import Seat, selection_verdict

RETRY = timedelta(seconds=30)
"""How long a refusal is believed before the agent is asked again."""
PROGRESS = timedelta(seconds=1)
"""How often an agent that reads a source is asked how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One variant of the ladder with what is behind it."""

    variant: VariantSpec
    artifact: Artifact | None
    verdict: Verdict
    settled: bool
    """False while an answer is still to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """All rungs of a model, and the questions that are open."""

    rungs: tuple[Rung, ...]
    questions: tuple[Resolve, ...]

    @property
    def settled(self) -> bool:
        """Whether every rung is resolved or refused."""
        return all(rung.settled for rung in self.rungs)

    @property
    def pending(self) -> bool:
        """Whether an answer is under way: somebody can look, and was asked or is going to be."""
        return any(rung.verdict.reason is Reason.RESOLVING for rung in self.rungs)

    @property
    def complete(self) -> bool:
        """Whether every rung is resolved."""
        return all(rung.artifact is not None for rung in self.rungs)


class Askable:
    """Nodes whose agents can be asked, by placement policy: each policy looks at all nodes once a plan."""

    def __init__(self, seats: Mapping[str, Seat]) -> None:
        self._seats = seats
        self._by_policy: dict[PlacementPolicy, tuple[str, ...]] = {}

    def of(self, spec: ModelSpec) -> tuple[str, ...]:
        """Those that a model's policy lets it onto."""
        nodes = self._by_policy.get(spec.placement)
        if nodes is None:
            nodes = self._by_policy[spec.placement] = tuple(
                name
                for name, seat in self._seats.items()
                if seat.facts is not None and selection_verdict(seat, spec) is None
            )
        return nodes


def resolve_ladder(model: Model, *, snapshot: FleetSnapshot, askable: Askable, now: datetime) -> Ladder:
    """The ladder of a model whose spec is valid."""
    releases = snapshot.releases.get(model.uid, ())
    rungs: list[Rung] = []
    questions: list[Resolve] = []
    for variant in model.checked_spec.variants:
        known = _remembered(variant, releases)
        if known is not None:
            rungs.append(resolved(variant, known))
            continue
        keys = _keys(variant, askable.of(model.checked_spec))
        questions += [Resolve(key=key) for key in keys if due(snapshot.resolutions.get(key), now)]
        rungs.append(_rung(variant, {key: snapshot.resolutions.get(key) for key in keys}))
    return Ladder(rungs=tuple(rungs), questions=tuple(questions))


def due(resolution: Resolution | None, now: datetime) -> bool:
    """Whether the agent should be asked (again)."""
    match resolution:
        case None | Resolving():
            return True
        case Unresolved(at=at):
            return now - at >= RETRY
        case Resolved():
            return False


def _keys(variant: VariantSpec, nodes: tuple[str, ...]) -> tuple[ResolutionKey, ...]:
    if variant.source.startswith("file:") or not nodes:
        asked = nodes
    else:
        asked = (nodes[crc32(variant.source.encode()) % len(nodes)],)  # a thousand models do not all ask the same one
    return tuple(ResolutionKey(node=node, source=variant.source, digest=variant.digest) for node in asked)


def _remembered(variant: VariantSpec, releases: tuple[Release, ...]) -> Artifact | None:
    for release in reversed(releases):
        for content in release.contents:
            if content.source == variant.source and variant.digest in (None, content.artifact.digest):
                return content.artifact
    return None


def _rung(variant: VariantSpec, answers: Mapping[ResolutionKey, Resolution | None]) -> Rung:
    found = {key.node: answer.artifact for key, answer in answers.items() if isinstance(answer, Resolved)}
    if not answers:
        source = without_secrets(variant.source)
        message = f"{variant.name}: no selected node has an agent that answers, so nobody can look at {source}"
        return _open(variant, Verdict(reason=Reason.AGENT_UNAVAILABLE, message=message))
    pending = [answer for answer in answers.values() if answer is None or isinstance(answer, Resolving)]
    if pending:
        return _open(variant, Verdict(reason=Reason.RESOLVING, message=f"{variant.name}: {_progress(pending)}"))
    if not found:
        refusal = next(answer for answer in answers.values() if isinstance(answer, Unresolved))
        verdict = Verdict(reason=Reason.of_agent(refusal.code), message=f"{variant.name}: {refusal.message}")
        return Rung(variant=variant, artifact=None, verdict=verdict, settled=True)
    if len({artifact.digest for artifact in found.values()}) > 1:
        differing = "; ".join(f"{artifact.digest[:19]} on {node}" for node, artifact in sorted(found.items()))
        source = without_secrets(variant.source)
        message = f"{variant.name}: {source} is not the same file everywhere: {differing}. Set `digest`."
        return Rung(
            variant=variant,
            artifact=None,
            verdict=Verdict(reason=Reason.SOURCE_AMBIGUOUS, message=message),
            settled=True,
        )
    return resolved(variant, next(iter(found.values())))


def resolved(variant: VariantSpec, artifact: Artifact) -> Rung:
    """The rung of a variant whose artifact is known."""
    message = f"{variant.name}: {artifact.facts.quantization}, {in_words(artifact.bytes)}"
    verdict = Verdict(reason=Reason.RESOLVED, message=message)
    return Rung(variant=variant, artifact=artifact, verdict=verdict, settled=True)


def _open(variant: VariantSpec, verdict: Verdict) -> Rung:
    return Rung(variant=variant, artifact=None, verdict=verdict, settled=False)


def _progress(pending: Sequence[Resolution | None]) -> str:
    running = [answer for answer in pending if isinstance(answer, Resolving) and answer.bytes_total]
    if not running:
        return "asking what is behind its source"
    slowest = min(running, key=lambda answer: answer.bytes_done / answer.bytes_total)
    tenths = 10 * slowest.bytes_done // slowest.bytes_total
    return f"reading its source, {10 * tenths} % of {in_words(slowest.bytes_total)}"
