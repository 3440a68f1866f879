"""What the gateways need of a model: its names and the slots that answer, with weight and capacity.

A slot is in the route as soon as one of its replicas runs. Replicas weigh alike, so a slot weighs as many as it has.
What cannot be seen is left as it was published, or as it was last told where the route itself is missing: a cell that
does not answer changes no address. Once all answer, an address that none of them has is of a node that has gone.
"""

from __future__ import annotations

from collections.abc import Mapping

from roadstead.domain.model import Model, ModelKey
from roadstead.domain.release import Release
from roadstead.domain.slot import shortened
from roadstead.domain.snapshot import Address, ObservedSlot, Route
from roadstead.planner.view import View


def plan_route(
    model: Model,
    *,
    release: Release | None,
    observed: tuple[ObservedSlot, ...],
    draining: frozenset[str],
    granted: Mapping[str, ModelKey],
    view: View,
) -> Route:
    """The ModelRoute of a model whose spec is valid."""
    capacity = model.checked_spec.requirements.concurrency
    published = view.snapshot.routes.get(model.key)
    addresses = [
        Address(
            slot=slot.name,
            release=slot.release,
            variant=slot.variant,
            node=slot.node,
            addresses=slot.addresses,
            weight=0 if slot.name in draining else len(slot.addresses),
            capacity=_capacity(slot, release, capacity),
            draining=slot.name in draining,
        )
        for slot in observed
        if slot.addresses and (slot.node in view.seen or published is None)
    ]
    if published is not None and not view.all_seen:
        addresses += [address for address in published.slots if address.node not in view.seen]
    return Route(
        name=route_name(model.key),
        model=model.key,
        names=tuple(name for name in model.checked_spec.names if granted.get(name) == model.key),
        task=model.checked_spec.task,
        slots=tuple(sorted(addresses, key=lambda address: address.slot)),
    )


def worth_publishing(wanted: Route, published: Route | None) -> bool:
    """Whether gateways should be told.

    A route is first made with an address in it. Before that gateways need not know the model; and where it served
    already and its route was lost, they go on by the last one they had, which an empty one would end.
    """
    return bool(wanted.slots) if published is None else not same_route(wanted, published)


def route_name(model: ModelKey) -> str:
    """``<namespace>.<model>``, a DNS subdomain of at most 63 characters."""
    return shortened(f"{model.namespace}.{model.name}")


def same_route(wanted: Route, published: Route) -> bool:
    """Whether there is nothing to publish."""
    return (wanted.name, wanted.names, wanted.task, wanted.slots) == (
        published.name,
        published.names,
        published.task,
        published.slots,
    )


def _capacity(slot: ObservedSlot, release: Release | None, default: int) -> int:
    contents = release.contents if release is not None else ()
    return next((content.concurrency for content in contents if content.hash == slot.content), default)
