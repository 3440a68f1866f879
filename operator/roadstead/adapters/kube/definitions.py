"""Brings a cluster's CustomResourceDefinitions up to ours, and never down.

Guarantees: a definition is written only if the cluster lacks it or has a lower revision (``schema_revisions``), and
only if nothing is lost by it (``growth``); all are looked at before the first is written. A write names the version
that was looked at, so two who do this at once do not overwrite each other. Where a newer chart was, an older one
changes nothing.

The API server is behind a Protocol: whoever starts a fleet on one machine has a smaller client than the operator's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

import roadstead
from roadstead.adapters.kube.growth import shrinking
from roadstead.adapters.kube.schema_revisions import revision_of

Definition = dict[str, Any]

_TRIES: Final = 5
_ESTABLISHED_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.1


class DefinitionProblem(Exception):
    """The definitions cannot be brought up, and a person has to decide something."""

    def __init__(self, code: str, message: str, *, remedy: str) -> None:
        super().__init__(f"{code}: {message}\n{remedy}")
        self.code = code
        self.message = message
        self.remedy = remedy


class Overtaken(Exception):
    """Somebody wrote the definition since it was read."""


class LiveDefinitions(Protocol):
    """The cluster's definitions."""

    async def read(self, name: str) -> Definition | None: ...

    async def create(self, definition: Definition) -> None:
        """Raises :class:`Overtaken` if there is one meanwhile."""

    async def apply(self, definition: Definition) -> None:
        """Server-side apply, at the resource version that it names; raises :class:`Overtaken` if that has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One of our definitions beside the cluster's."""

    name: str
    revision: int
    live_revision: int | None
    """None: the cluster has no such definition."""
    losses: tuple[str, ...] = ()
    """What writing ours would take away; only told where ours has the higher revision."""

    @property
    def to_write(self) -> bool:
        return self.live_revision is None or self.live_revision < self.revision

    def __str__(self) -> str:
        if self.live_revision is None:
            return f"{self.name}: created, revision {self.revision}"
        if self.live_revision < self.revision:
            return f"{self.name}: raised from revision {self.live_revision} to {self.revision}"
        if self.live_revision == self.revision:
            return f"{self.name}: is at revision {self.revision} already"
        return f"{self.name}: is at revision {self.live_revision}, newer than ours ({self.revision}); left as it is"


def packaged() -> tuple[Definition, ...]:
    """Ours: shipped inside a wheel, beside the chart in a clone."""
    package = Path(roadstead.__file__).parent
    for folder in (package / "crds", package.parents[1] / "charts" / "roadstead" / "crds"):
        files = sorted(folder.glob("*.yaml"))
        if files:
            return tuple(yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)
    raise DefinitionProblem(
        "DefinitionsMissing",
        "The custom resource definitions are not part of this installation.",
        remedy="Install the wheel anew, or run from a complete clone (charts/roadstead/crds).",
    )


def compare(ours: Definition, live: Definition | None) -> Comparison:
    """What is to be done about one definition."""
    name, revision = ours["metadata"]["name"], revision_of(ours)
    if live is None:
        return Comparison(name=name, revision=revision, live_revision=None)
    found = Comparison(name=name, revision=revision, live_revision=revision_of(live))
    if not found.to_write:
        return found
    return Comparison(name=name, revision=revision, live_revision=found.live_revision, losses=shrinking(live, ours))


async def bring_up(
    cluster: LiveDefinitions,
    ours: Sequence[Definition],
    *,
    say: Callable[[str], None] = lambda _: None,
    established_seconds: float = _ESTABLISHED_SECONDS,
) -> None:
    """Create and raise what has to be, then wait until all are served; ``say`` is told one line for each.

    Raises :class:`DefinitionProblem`, before anything was written if something would be lost.
    """
    for definition, comparison in await _written(cluster, ours):
        say(str(comparison))
        await _until_established(cluster, definition["metadata"]["name"], seconds=established_seconds)


async def _written(cluster: LiveDefinitions, ours: Sequence[Definition]) -> list[tuple[Definition, Comparison]]:
    """Look and write until nobody comes between; what was found at first is what is told."""
    told: dict[str, Comparison] = {}
    for _ in range(_TRIES):
        live = {each["metadata"]["name"]: await cluster.read(each["metadata"]["name"]) for each in ours}
        comparisons = [compare(each, live[each["metadata"]["name"]]) for each in ours]
        _refuse_losses(comparisons)
        for comparison in comparisons:
            told.setdefault(comparison.name, comparison)
        try:
            for definition, comparison in zip(ours, comparisons, strict=True):
                if comparison.to_write:
                    await _write(cluster, definition, live[comparison.name])
        except Overtaken:
            continue
        return [(definition, told[definition["metadata"]["name"]]) for definition in ours]
    raise DefinitionProblem(
        "DefinitionsContended",
        f"Somebody else wrote the custom resource definitions each of {_TRIES} times that they were to be written.",
        remedy="Find who applies them besides this program (kubectl get crd -o yaml --show-managed-fields), then run "
        "it again.",
    )


async def _write(cluster: LiveDefinitions, definition: Definition, live: Definition | None) -> None:
    if live is None:
        await cluster.create(definition)
        return
    name, metadata = definition["metadata"]["name"], live["metadata"]
    if metadata.get("deletionTimestamp"):
        raise DefinitionProblem(
            "DefinitionTerminating",
            f"{name} is being deleted, with all objects of its kind.",
            remedy=f"Wait until it is gone (kubectl wait --for=delete crd/{name}), then run this again.",
        )
    versioned = {**definition["metadata"], "resourceVersion": metadata["resourceVersion"]}
    await cluster.apply({**definition, "metadata": versioned})


def _refuse_losses(comparisons: Sequence[Comparison]) -> None:
    losses = [f"{comparison.name}: {loss}" for comparison in comparisons for loss in comparison.losses]
    if losses:
        raise DefinitionProblem(
            "SchemaWouldShrink",
            "The cluster's definitions allow what ours would not; nothing was written:\n  " + "\n  ".join(losses),
            remedy="Somebody has changed them by hand, or this program is of another line. Look at the difference "
            "(kubectl diff -f charts/roadstead/crds); if it may go, apply them yourself: kubectl apply --server-side "
            "--force-conflicts -f charts/roadstead/crds",
        )


async def _until_established(cluster: LiveDefinitions, name: str, *, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        conditions = _conditions(await cluster.read(name))
        if conditions.get("Established", {}).get("status") == "True":
            return
        refused = conditions.get("NamesAccepted", {})
        if refused.get("status") == "False":
            raise DefinitionProblem(
                "NamesTaken",
                f"The API server does not accept the names of {name}: {refused.get('message', '')}",
                remedy="Remove the definition that has these names, then run this again.",
            )
        if loop.time() > deadline:
            raise DefinitionProblem(
                "NotEstablished",
                f"{name} is not served {seconds:.0f} s after it was written.",
                remedy=f"See kubectl describe crd {name}; run this again once the API server is well.",
            )
        await asyncio.sleep(_LOOK_SECONDS)


def _conditions(definition: Definition | None) -> Mapping[str, Mapping[str, Any]]:
    rows = (definition or {}).get("status", {}).get("conditions") or ()
    return {row["type"]: row for row in rows}
