"""One snapshot with its indices: what is asked of every model is counted once a plan, not once a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from roadstead.domain.model import Model, ModelKey
from roadstead.domain.release import Content
from roadstead.domain.snapshot import (
    Abilities,
    EngineBuild,
    FleetSnapshot,
    GatewayFacts,
    Known,
    ObservedSlot,
    Part,
    Resolution,
    Resolved,
    Resolving,
    Route,
    Stale,
    Unknown,
    Weight,
    WeightPhase,
    latest,
)
from roadstead.planner.builds import built, built_by_image
from roadstead.planner.suitability.capability import BuiltEngine

T = TypeVar("T")
Silence = datetime | str | None


@dataclass(frozen=True)
class View:
    """A snapshot as the planner looks at it."""

    snapshot: FleetSnapshot

    @cached_property
    def slots(self) -> tuple[ObservedSlot, ...]:
        """Every slot that any cell ever told of, the configured and the ones being torn down."""
        return tuple(
            self._with_addresses(slot)
            for cell in self.snapshot.cells
            if (told := latest(cell.facts))
            for slot in told.slots
        )

    def _with_addresses(self, slot: ObservedSlot) -> ObservedSlot:
        """Replicas that are not reached again yet listen where they did, as their route says."""
        if not slot.recovering:
            return slot
        route = self.snapshot.routes.get(slot.model)
        published = next((each.addresses for each in route.slots if each.slot == slot.name), ()) if route else ()
        further = [address for address in published if address not in slot.addresses][: slot.recovering]
        return replace(slot, addresses=tuple(sorted((*slot.addresses, *further))))

    @cached_property
    def models(self) -> Mapping[ModelKey, Model]:
        """Every LocalModel that the API server has."""
        return {model.key: model for model in self.snapshot.models}

    def slots_of(self, model: ModelKey) -> tuple[ObservedSlot, ...]:
        """Those of one model."""
        return self._slots_by_model.get(model, ())

    def slots_on(self, node: str) -> tuple[ObservedSlot, ...]:
        """Those on one node."""
        return self._slots_by_node.get(node, ())

    def leases_of(self, slot: str) -> int:
        """Leases of a slot that living engines still hold, as far as any agent ever told."""
        return self._leases.get(slot, 0)

    def owners_of(self, digest: str) -> frozenset[str]:
        """Uids of the LocalModels that refer to an artifact."""
        return frozenset(self._owners.get(digest, ()))

    def failed_fetches(self, digest: str) -> tuple[str, ...]:
        """Nodes whose agents are Known and could not fetch an artifact."""
        return tuple(self._failed.get(digest, ()))

    def holders(self, digest: str) -> frozenset[str]:
        """Nodes whose agents are Known and have an artifact or are fetching it."""
        return frozenset(self._holders.get(digest, ()))

    def cannot_have(self, content: Content) -> frozenset[str]:
        """Nodes that could not fetch the artifact, or that said of its file that it is not there, or another one."""
        digest = content.artifact.digest
        answers = self._files.get(content.source, {})
        without = {node for node, digests in answers.items() if digest not in digests}
        return frozenset(without.union(self.failed_fetches(digest)))

    def answers(self, node: str, source: str) -> tuple[Resolution, ...]:
        """Everything that a node's agent said of a source, whatever digest it was asked for."""
        return tuple(self._answers.get((node, source), ()))

    def content(self, name: str) -> Content | None:
        """The content of that hash, if any release that is at hand has it."""
        return self._contents.get(name)

    def built(self, content: Content) -> BuiltEngine | None:
        """What the content's build of an engine can do; None if nobody here knows the engine.

        Of an image that no pool has any more nothing is told but that it runs on a processor.
        """
        key = (content.engine, content.engine_image)
        if key not in self._builds:
            return built(EngineBuild(engine=content.engine, image=content.engine_image))
        return self._builds[key]

    @cached_property
    def abilities(self) -> tuple[Abilities, ...]:
        """Of the pools' engines, in their order."""
        return tuple(build.abilities for pool in self.snapshot.pools for build in pool.engines)

    @cached_property
    def _builds(self) -> Mapping[tuple[str, str], BuiltEngine | None]:
        pools = sorted(self.snapshot.pools, key=lambda pool: pool.name)
        return built_by_image(build for pool in pools for build in pool.engines)

    @cached_property
    def seen(self) -> frozenset[str]:
        """Nodes of the cells that are Known."""
        return frozenset(node for cell in self.snapshot.cells if isinstance(cell.facts, Known) for node in cell.nodes)

    @cached_property
    def all_seen(self) -> bool:
        """Whether there are cells, and all of them are Known."""
        return bool(self.snapshot.cells) and all(isinstance(cell.facts, Known) for cell in self.snapshot.cells)

    @cached_property
    def silent_cells(self) -> tuple[tuple[str, Silence], ...]:
        """By name: those that are not Known."""
        silent = ((cell.name, silence(cell.facts)) for cell in self.snapshot.cells)
        return tuple((name, since) for name, since in silent if since is not None)

    def has_drained(self, slot: str, route: Route | None) -> bool:
        """Whether every gateway works by this route and has nothing under way at the slot."""
        return all(gateway.lets_go(slot, route) for gateway in self._gateways)

    @cached_property
    def _slots_by_model(self) -> Mapping[ModelKey, tuple[ObservedSlot, ...]]:
        found: defaultdict[ModelKey, list[ObservedSlot]] = defaultdict(list)
        for slot in self.slots:
            found[slot.model].append(slot)
        return {model: tuple(slots) for model, slots in found.items()}

    @cached_property
    def _slots_by_node(self) -> Mapping[str, tuple[ObservedSlot, ...]]:
        found: defaultdict[str, list[ObservedSlot]] = defaultdict(list)
        for slot in self.slots:
            found[slot.node].append(slot)
        return {node: tuple(slots) for node, slots in found.items()}

    @cached_property
    def _leases(self) -> Mapping[str, int]:
        found: defaultdict[str, int] = defaultdict(int)
        for part in self.snapshot.agents.values():
            told = latest(part)
            for lease in told.leases if told is not None else ():
                found[lease.slot] += 1
        return found

    @cached_property
    def _failed(self) -> Mapping[str, list[str]]:
        return self._nodes_by_digest(lambda weight: weight.phase is WeightPhase.FAILED)

    @cached_property
    def _holders(self) -> Mapping[str, list[str]]:
        return self._nodes_by_digest(lambda weight: weight.phase is not WeightPhase.FAILED)

    def _nodes_by_digest(self, chosen: Callable[[Weight], bool]) -> Mapping[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for node, part in sorted(self.snapshot.agents.items()):
            for weight in part.value.weights if isinstance(part, Known) else ():
                if chosen(weight):
                    found[weight.digest].append(node)
        return found

    @cached_property
    def _answers(self) -> Mapping[tuple[str, str], list[Resolution]]:
        found: defaultdict[tuple[str, str], list[Resolution]] = defaultdict(list)
        for key, answer in self.snapshot.resolutions.items():
            found[key.node, key.source].append(answer)
        return found

    @cached_property
    def _files(self) -> Mapping[str, Mapping[str, set[str]]]:
        """By source and node, the digests of files that were looked at there; none where there was no file."""
        found: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for key, answer in self.snapshot.resolutions.items():
            if not key.source.startswith("file:") or isinstance(answer, Resolving):
                continue
            digests = found[key.source][key.node]
            if isinstance(answer, Resolved):
                digests.add(answer.artifact.digest)
        return found

    @cached_property
    def _contents(self) -> Mapping[str, Content]:
        return {
            content.hash: content
            for releases in self.snapshot.releases.values()
            for release in releases
            for content in release.contents
        }

    @cached_property
    def _owners(self) -> Mapping[str, set[str]]:
        resolved: defaultdict[str, set[str]] = defaultdict(set)
        for key, answer in self.snapshot.resolutions.items():
            if isinstance(answer, Resolved):
                resolved[key.source].add(answer.artifact.digest)
        found: defaultdict[str, set[str]] = defaultdict(set)
        for model in self.snapshot.models:
            for digest in self._digests(model, resolved):
                found[digest].add(model.uid)
        return found

    def _digests(self, model: Model, resolved: Mapping[str, set[str]]) -> Iterable[str]:
        for release in self.snapshot.releases.get(model.uid, ()):
            for content in release.contents:
                yield content.artifact.digest
        for variant in model.spec.variants if model.spec is not None else ():
            if variant.digest is not None:
                yield variant.digest
            yield from resolved.get(variant.source, ())

    @cached_property
    def _gateways(self) -> tuple[_Gateway, ...]:
        return tuple(_Gateway.of(part) for part in self.snapshot.gateways.values())


@dataclass(frozen=True, slots=True)
class _Gateway:
    """What one gateway told, ready to be asked; one that is not Known lets nothing go."""

    known: bool
    routes: frozenset[tuple[str, str]]
    in_flight: Mapping[str, int]

    @classmethod
    def of(cls, part: Part[GatewayFacts]) -> _Gateway:
        if not isinstance(part, Known):
            return cls(known=False, routes=frozenset(), in_flight={})
        return cls(known=True, routes=frozenset(part.value.routes), in_flight=dict(part.value.in_flight))

    def lets_go(self, slot: str, route: Route | None) -> bool:
        works_by_it = route is None or (route.name, route.resource_version) in self.routes
        return self.known and works_by_it and not self.in_flight.get(slot, 0)


def silence(part: Part[T]) -> Silence:
    """Since when, or why, a part is not Known; None if it is."""
    match part:
        case Stale(since=since):
            return since
        case Unknown(why=why):
            return why
        case _:
            return None


def configured(slots: Iterable[ObservedSlot]) -> tuple[ObservedSlot, ...]:
    """Those that are still in their cell's configuration."""
    return tuple(slot for slot in slots if slot.configured)
