"""Whether a build of an engine can run a format on a piece of hardware: natively, slowly, or not and why.

The tables say what works. A pair that no row lets through is refused for what the row that got furthest would not let
pass: "needs compute capability 7.5, the device has 7.0" says more than that there is no row. Compute capabilities and
versions are compared as numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from roadstead.domain.inventory import Device, Vendor
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.planner.suitability import llama_cpp, transformers, vllm
from roadstead.planner.suitability.rows import Backend, Capability, Engine, Row, Table, Version, version_of
from roadstead_weights.facts import ModelFacts, Scheme

TABLES: Final[Mapping[Engine, Table]] = {
    Engine.LLAMA_CPP: llama_cpp.TABLE,
    Engine.VLLM: vllm.TABLE,
    Engine.TRANSFORMERS: transformers.TABLE,
}
_BACKENDS: Final[Mapping[Vendor, tuple[Backend, ...]]] = {
    Vendor.NVIDIA: (Backend.CUDA, Backend.VULKAN),
    Vendor.AMD: (Backend.ROCM, Backend.VULKAN),
    Vendor.INTEL: (Backend.SYCL, Backend.VULKAN),
    Vendor.HABANA: (Backend.HPU,),
}
"""The better first."""
_X86, _ARM = "sse2", "asimd"
"""Instruction sets that every 64-bit processor of the kind has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """An engine as it was built and is started, as far as it matters to what it can run."""

    engine: Engine
    version: str
    """``0.33.0``, ``b11434``; empty: not told."""
    backends: frozenset[Backend]
    capability: Capability = (0, 0)
    """The least that its CUDA kernels were compiled for: (7, 5) with CUDA 13, (5, 0) with CUDA 12."""
    isa: frozenset[str] = frozenset()
    """Instruction sets that it cannot do without on a processor, as the kernel names them."""
    plugins: frozenset[str] = frozenset()
    dtype: str = ""
    """``float16`` where it is told to compute in that; empty: what the model says."""

    @property
    def name(self) -> str:
        return f"{self.engine} {self.version}".rstrip()

    @property
    def numbers(self) -> Version:
        return version_of(self.version)

    @property
    def table(self) -> Table:
        return TABLES[self.engine]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A way in which the engine runs the model."""

    backend: Backend
    slow: str = ""
    """Why it is slower than it might be; empty: natively."""
    held_bits: int = 0
    """Of a weight in memory, where it is decompressed when it is loaded; 0: as in the file."""
    source: str
    """Where that is read."""

    @property
    def native(self) -> bool:
        return not self.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    facts: ModelFacts
    build: BuiltEngine
    device: Device | None
    isa: frozenset[str] | None

    @property
    def dtype(self) -> str:
        return self.build.dtype or self.facts.dtype


def capability(
    facts: ModelFacts, *, build: BuiltEngine, device: Device | None, isa: frozenset[str] | None
) -> Path | Verdict:
    """How the build runs the model on a device, or with ``device=None`` on a processor with these instruction sets.

    ``isa=None``: nobody told, so nothing is refused for one that is missing.
    """
    asked = _Question(facts=facts, build=build, device=device, isa=isa)
    known = [row for row in build.table.rows if facts.scheme in row.schemes and row.holds_for(build.numbers)]
    if not known and not build.version and any(facts.scheme in row.schemes for row in build.table.rows):
        return Verdict(
            reason=Reason.NO_FORMAT_ENGINE,
            message=f"whether {build.name} runs {format_of(facts)} depends on its version, "
            "which the WorkerPool does not tell (spec.engines[].version)",
        )
    if not known:
        return Verdict(reason=Reason.NO_FORMAT_ENGINE, message=f"{build.name} does not run {format_of(facts)}")
    backends = [each for each in _backends(device) if each in build.backends]
    if not backends:
        return Verdict(
            reason=Reason.VENDOR_UNSUPPORTED,
            message=f"this build of {build.name} computes with {_names(sorted(build.backends))}, "
            f"not on {_named(device)}",
        )
    rows = [row for row in known if row.backend in backends]
    if not rows:
        return Verdict(
            reason=Reason.VENDOR_UNSUPPORTED,
            message=f"{build.name} runs {format_of(facts)} with {_names(row.backend for row in known)}, "
            f"not with {_names(backends)} on {_named(device)}",
        )
    answers = [_through(row, asked) for row in rows]
    path = next((answer for answer in answers if isinstance(answer, Path)), None)
    # Of several that get equally far the last speaks: it asks for least.
    return path or max(reversed([each for each in answers if not isinstance(each, Path)]), key=itemgetter(0))[1]


def _through(row: Row, asked: _Question) -> Path | tuple[int, Verdict]:
    """The way that the row tells; or how many checks the pair passes in it, and what the next one says."""
    for passed, check in enumerate(_CHECKS):
        verdict = check(row, asked)
        if verdict is not None:
            return passed, verdict
    return Path(backend=row.backend, slow=row.slow, held_bits=row.held_bits, source=row.source)


def _architecture(row: Row, asked: _Question) -> Verdict | None:
    if not row.architectures or asked.device is None:
        return None
    if not asked.device.architecture:
        return Verdict(
            reason=Reason.AMBIGUOUS_INVENTORY,
            message=f"the architecture of {asked.device.product} is not known, and {asked.build.name} "
            f"runs {format_of(asked.facts)} on {_names(row.architectures)} only",
        )
    if asked.device.architecture.startswith(row.architectures):
        return None
    return Verdict(
        reason=Reason.VENDOR_UNSUPPORTED,
        message=f"{asked.build.name} runs {format_of(asked.facts)} on {_names(row.architectures)}, "
        f"{asked.device.product} is {asked.device.architecture}",
    )


def _compute_capability(row: Row, asked: _Question) -> Verdict | None:
    device = asked.device
    if device is None or row.backend is not Backend.CUDA:
        return None
    least = max(row.capability, asked.build.capability)
    if device.compute_capability is None:
        return Verdict(
            reason=Reason.AMBIGUOUS_INVENTORY,
            message=f"the compute capability of {device.product} is not known, "
            f"and {asked.build.name} needs {_dotted(least)} for {format_of(asked.facts)}",
        )
    has = f"{device.product} has {_dotted(device.compute_capability)}"
    if device.compute_capability < least:
        return Verdict(
            reason=Reason.COMPUTE_CAPABILITY_TOO_LOW,
            message=f"{asked.build.name} needs compute capability {_dotted(least)} for {format_of(asked.facts)}, {has}",
        )
    if row.below is not None and device.compute_capability >= row.below:
        return Verdict(
            reason=Reason.DTYPE_UNSUPPORTED,
            message=f"{asked.build.name} computes in {format_of(asked.facts)} "
            f"below compute capability {_dotted(row.below)} only, {has}",
        )
    return None


def _instruction_sets(row: Row, asked: _Question) -> Verdict | None:
    if asked.device is not None or asked.isa is None:
        return None
    missing = [each for each in (*sorted(asked.build.isa), *row.isa) if each not in asked.isa]
    if not missing:
        return None
    return Verdict(
        reason=Reason.ISA_MISSING,
        message=f"{asked.build.name} needs {_names(missing)} for {format_of(asked.facts)}, "
        f"which the node's processor ({_processor(asked.isa)}) lacks",
    )


def _quantization(row: Row, asked: _Question) -> Verdict | None:
    for name, value, possible in (
        ("bits a weight", asked.facts.weight_bits, row.bits),
        ("weights a group", asked.facts.group_size, row.groups),
    ):
        if possible and value and value not in possible:
            return Verdict(
                reason=Reason.NO_FORMAT_ENGINE,
                message=f"{asked.build.name} runs {format_of(asked.facts)} with {_names(map(str, possible))} {name} "
                f"on {row.backend}, the model has {value}",
            )
    return None


def _plugin(row: Row, asked: _Question) -> Verdict | None:
    if not row.plugin or row.plugin in asked.build.plugins:
        return None
    return Verdict(
        reason=Reason.PLUGIN_MISSING,
        message=f"{asked.build.name} runs {format_of(asked.facts)} on {row.backend} with {row.plugin}, "
        "which this build has not",
    )


def _dtype(row: Row, asked: _Question) -> Verdict | None:
    for lack in asked.build.table.dtypes:
        if lack.dtype != asked.dtype or lack.backend is not row.backend:
            continue
        if lack.models and asked.facts.architecture not in lack.models:
            continue
        has = asked.device.compute_capability if asked.device is not None else None
        if lack.below is not None and (has is None or has >= lack.below):
            continue
        if lack.below is None or has is None:
            why = f"in which {asked.facts.architecture} overflows"
        else:
            why = f"which needs compute capability {_dotted(lack.below)}, {_named(asked.device)} has {_dotted(has)}"
        return Verdict(
            reason=Reason.DTYPE_UNSUPPORTED,
            message=f"{asked.build.name} would compute in {asked.dtype}, {why}; it can in {lack.instead}",
        )
    return None


_CHECKS: Final[tuple[Callable[[Row, _Question], Verdict | None], ...]] = (
    _architecture,
    _compute_capability,
    _instruction_sets,
    _quantization,
    _plugin,
    _dtype,
)


def _backends(device: Device | None) -> tuple[Backend, ...]:
    return (Backend.CPU,) if device is None else _BACKENDS[device.vendor]


def format_of(facts: ModelFacts) -> str:
    """Container and scheme; a GGUF has none but its own."""
    match facts.scheme:
        case Scheme.GGML:
            return str(facts.format)
        case Scheme.PLAIN:
            return f"unquantized {facts.format}"
        case scheme:
            return f"{facts.format} in {scheme}"


def _named(device: Device | None) -> str:
    return "a processor alone" if device is None else f"{device.product} of {device.vendor}"


def _processor(isa: frozenset[str]) -> str:
    """People know a processor by the best it can."""
    notable = ("avx512f", "avx2", "asimddp", _ARM, _X86)
    return next((f"with {each}" for each in notable if each in isa), "of another kind")


def _names(of: Iterable[str]) -> str:
    *others, last = dict.fromkeys(of)
    return f"{', '.join(others)} and {last}" if others else last


def _dotted(numbers: Capability) -> str:
    return ".".join(map(str, numbers))
