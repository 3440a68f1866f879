"""What the pools' engines can do: a build of an engine by its description, and that of a content.

Contents are made by the engine's name and the scheme of the weights alone. The description (version, backends, compute
capability) decides where a content runs, never whether there is one: put right later it must make no release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import EngineBuild
from roadstead.planner.suitability.capability import TABLES, BuiltEngine, format_of
from roadstead.planner.suitability.rows import Backend, Engine
from roadstead_weights.facts import Format, ModelFacts, Scheme

_ENGINES: Final[Mapping[str, Engine]] = {str(engine): engine for engine in Engine}
_BACKENDS: Final[Mapping[str, Backend]] = {str(backend): backend for backend in Backend}
_PLUGINS: Final[Mapping[tuple[Engine, Backend], str]] = {(Engine.VLLM, Backend.HPU): "vllm-gaudi"}
"""Without which the engine does not compute with the backend: a build that does has it."""


def built(build: EngineBuild) -> BuiltEngine | None:
    """The build as the tables know it; None if they do not know its engine. A backend they do not know is left out."""
    engine = _ENGINES.get(build.engine)
    if engine is None:
        return None
    backends = frozenset(_BACKENDS[name] for name in build.backends if name in _BACKENDS)
    return BuiltEngine(
        engine=engine,
        version=build.version,
        backends=backends,
        capability=build.capability,
        plugins=frozenset(_PLUGINS[engine, each] for each in backends if (engine, each) in _PLUGINS),
    )


def built_by_image(builds: Iterable[EngineBuild]) -> Mapping[tuple[str, str], BuiltEngine | None]:
    """By engine and identity. Of several descriptions of one image the first that says anything counts."""
    found: dict[tuple[str, str], EngineBuild] = {}
    for build in builds:
        key = (build.engine, build.identity)
        if key not in found or found[key].abilities == EngineBuild(engine=build.engine, image=build.image).abilities:
            found[key] = build
    return {key: built(build) for key, build in found.items()}


def serves(build: EngineBuild, facts: ModelFacts) -> bool:
    """Whether the engine has any way of running weights of this scheme, whatever the hardware and its version."""
    return facts.scheme in _schemes(build.engine)


def no_engine(facts: ModelFacts, builds: Iterable[EngineBuild]) -> Verdict | None:
    """None if one of these builds serves the model; else what the model is, and what the builds' engines run."""
    builds = tuple(builds)
    if any(serves(build, facts) for build in builds):
        return None
    engines = sorted({build.engine for build in builds})
    return Verdict(
        reason=Reason.NO_FORMAT_ENGINE,
        message="; ".join(
            [
                f"no pool that it may use has an engine for {format_of(facts)}",
                *(f"{engine} runs {_formats(engine)}" for engine in engines if engine in _ENGINES),
                *(f"what {engine} runs is not known" for engine in engines if engine not in _ENGINES),
            ]
        ),
    )


def _schemes(engine: str) -> tuple[Scheme, ...]:
    """Without those that the tables have no row for, in their order."""
    if engine not in _ENGINES:
        return ()
    return tuple(dict.fromkeys(scheme for row in TABLES[_ENGINES[engine]].rows for scheme in row.schemes))


def _formats(engine: str) -> str:
    schemes = _schemes(engine)
    others = ", ".join("unquantized" if each is Scheme.PLAIN else each for each in schemes if each is not Scheme.GGML)
    formats = [str(Format.GGUF)] if Scheme.GGML in schemes else []
    return " and ".join([*formats, *([f"{Format.SAFETENSORS} ({others})"] if others else [])])
