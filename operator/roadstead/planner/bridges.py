"""How a node is emptied while the release that its slots should move to has no place yet.

After an adoption every release asks for the new image. Where devices are exclusive no worker of it lives until a node
has been emptied of the old one, and the release itself has nothing to offer meanwhile. So what leaves a closing node
(cordoned, or its worker is to go) moves as it is: its own content is dealt to nodes whose worker still runs its image.
Such a bridge is a slot of the earlier release. It is kept as long as replicas are missing, and leaves as any old slot
does once the release has found its places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from roadstead.domain.release import Content, Release
from roadstead.domain.snapshot import ObservedSlot
from roadstead.planner.deal import Target
from roadstead.planner.needs import Need, need_of_slot, takes_of
from roadstead.planner.nodes import Haste, Seat, haste
from roadstead.planner.rooms import Rooms


def bridges_over(
    missing: int,
    *,
    leaving: Iterable[ObservedSlot],
    releases: tuple[Release, ...],
    seats: Mapping[str, Seat],
    rooms: Rooms,
    there: Counter[str],
    evens: Callable[[str], bool],
    fits: Callable[[Content, str], bool],
) -> tuple[Target, ...]:
    """Slots of earlier releases for replicas that the release has no place for.

    Their memory is taken from ``rooms``, and by node their replicas are added to ``there``. Of what may stay as it is
    that comes first which ``evens`` out the spread.
    """
    stamps = {content.hash: (content, release.number) for release in releases for content in release.contents}
    able = [slot for slot in leaving if slot.content in stamps and slot.failed_at is None]
    pillars: dict[tuple[str, str], ObservedSlot] = {}
    stable = [slot for slot in able if haste(seats, slot) is Haste.NONE]
    while missing > 0 and stable:
        slot = min(stable, key=lambda slot: (not evens(slot.node), -slot.ready, slot.name))
        stable.remove(slot)
        pillars[slot.node, slot.content] = slot
        rooms.take(slot.node, *takes_of(slot))
        there[slot.node] += slot.replicas
        missing -= slot.replicas
    more: Counter[tuple[str, str]] = Counter()
    needs: dict[str, Need] = {}
    for slot in sorted(able, key=lambda slot: slot.name):
        if haste(seats, slot) is not Haste.CLOSING:
            continue
        for _ in range(min(slot.replicas, max(0, missing))):
            content, _ = stamps[slot.content]
            nodes = [node for node in seats if fits(content, node)]
            if not nodes:
                break
            node = min(nodes, key=lambda node: (more[node, content.hash], -rooms.free(node), node))
            need = need_of_slot(slot)
            if (take := rooms.room(node).spot(need)) is not None:
                rooms.take(node, take)
            more[node, content.hash] += 1
            there[node] += 1
            needs[content.hash] = need
            missing -= 1
    return tuple(
        Target(
            node=node,
            content=stamps[content][0],
            replicas=more[node, content] + (kept.replicas if kept is not None else 0),
            need=need_of_slot(kept) if kept is not None else needs[content],
            kept=kept,
            release=kept.release if kept is not None else stamps[content][1],
        )
        for node, content in sorted(pillars.keys() | more.keys())
        for kept in [pillars.get((node, content))]
    )
