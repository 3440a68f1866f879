"""From an agent's words to the domain's. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from roadstead.domain import snapshot
from roadstead.domain.inventory import Device, Vendor
from roadstead.domain.model import PROMPT_TOKENS
from roadstead.domain.release import Artifact, shared
from roadstead.domain.snapshot import AgentFacts, EngineBuild, Lease, Resolved, Resolving, Weight
from roadstead_worker.contract import DeviceState, LeaseState, NodeState, Progress, Resolution, WeightState


def agent_facts(state: NodeState) -> AgentFacts:
    """What the planner may know of a node."""
    measured: dict[str, int] = {}
    for measurement in state.measurements:
        measured[measurement.content] = max(measured.get(measurement.content, 0), measurement.memory_bytes)
    return AgentFacts(
        epoch=state.epoch,
        cores=state.cores,
        isa=state.hardware.isa,
        budget_bytes=state.memory.budget_bytes,
        free_bytes=state.memory.free_bytes,
        disk_free_bytes=state.disk_free_bytes,
        engines=tuple(EngineBuild(engine=offer.engine, image=offer.image) for offer in state.engines),
        weights=tuple(_weight(weight) for weight in state.weights),
        leases=tuple(_lease(lease) for lease in state.leases),
        measured_bytes=tuple(sorted(measured.items())),
        measured_speeds=tuple(
            sorted((each.content, each.tokens_per_second) for each in state.measurements if each.tokens_per_second)
        ),
        measured_waits=tuple(
            sorted(
                (each.content, PROMPT_TOKENS / each.prompt_tokens_per_second)
                for each in state.measurements
                if each.prompt_tokens_per_second
            )
        ),
        memory_bandwidth=state.hardware.memory_bandwidth,
        devices=tuple(_devices(state.devices)),
        ambiguities=state.ambiguities,
    )


def _lease(lease: LeaseState) -> Lease:
    return Lease(
        slot=lease.slot,
        index=lease.index,
        bytes=max(lease.bytes_granted, lease.bytes_measured),
        devices=lease.devices,
        device_bytes=lease.device_bytes,
    )


def _devices(devices: Iterable[DeviceState]) -> Iterable[Device]:
    """Those of vendors that are known here; an agent may be newer than this operator."""
    for each in devices:
        if each.vendor in frozenset(Vendor):
            yield Device(
                id=each.id,
                vendor=Vendor(each.vendor),
                product=each.product,
                memory_bytes=each.memory_bytes,
                free_bytes=each.free_bytes,
                compute_capability=each.compute_capability,
                architecture=each.architecture,
                mig_profile=each.mig_profile,
            )


def resolved(answer: Resolution) -> Resolved:
    return Resolved(artifact=shared(Artifact(digest=answer.digest, bytes=answer.bytes, facts=answer.facts)))


def resolving(answer: Progress) -> Resolving:
    return Resolving(
        bytes_total=answer.bytes_total, bytes_done=answer.bytes_done, bytes_per_second=answer.bytes_per_second
    )


def _weight(weight: WeightState) -> Weight:
    return Weight(
        digest=weight.digest,
        phase=snapshot.WeightPhase(weight.phase.value),
        bytes_total=weight.bytes_total,
        bytes_done=weight.bytes_done,
        bytes_per_second=weight.bytes_per_second,
        code=weight.problem.code if weight.problem else "",
        message=weight.problem.message if weight.problem else "",
    )
