"""Ports on loopback addresses, chosen once and remembered.

A person's kubeconfig and scripts keep working over a restart because the ports do not move. One is chosen anew only
if a stranger holds it at a start, and that is said. Single ports come from 20000 to 29999: below what the kernel gives
to outgoing connections (32768 to 60999), apart from Ray's worker ports (10002 to 19999) and from Ray Serve's replica
ports (30000 to 31000).
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.files import write_atomically

_SINGLE = range(20_000, 30_000)
_WORKERS = range(10_100, 19_900)
_TRIES = 200


@dataclass(frozen=True, slots=True)
class PortWish:
    """A name, the loopback address it is for, and how many consecutive ports (more than one: Ray's workers)."""

    name: str
    host: str = "127.0.0.1"
    count: int = 1


def choose_ports(
    wishes: Iterable[PortWish],
    *,
    remembered: Path,
    chance: random.Random | None = None,
    patience_seconds: float = 3.0,
) -> tuple[dict[str, int], list[str]]:
    """The first port of each wish, and a sentence for every remembered one that a stranger has taken.

    To be called while nothing of the fleet runs: a port of our own would look taken. A process that was ended a moment
    ago may hold its port a little longer, so a remembered one is given `patience_seconds` in all to become free.
    """
    deadline = time.monotonic() + patience_seconds
    dice = chance or random.Random()  # noqa: S311 - spreads fleets of one machine, guards nothing
    before = _read(remembered)
    chosen: dict[str, int] = {}
    sentences: list[str] = []
    used: set[int] = set()
    for wish in wishes:
        old = before.get(wish.name)
        if old is not None and not _overlaps(old, wish, used) and _free_by(wish, old, deadline):
            chosen[wish.name] = old
        else:
            chosen[wish.name] = _pick(wish, used, dice)
            if old is not None:
                sentences.append(
                    f"port {old} of {wish.name} is taken by another program; it moves to {chosen[wish.name]}"
                )
        used.update(range(chosen[wish.name], chosen[wish.name] + wish.count))
    write_atomically(remembered, json.dumps(chosen, indent=2) + "\n")
    return chosen, sentences


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now, on this address and on all addresses."""
    for address in (host, "0.0.0.0"):  # noqa: S104 - Ray's daemons bind every address
        with socket.socket() as probe:
            # As servers do: connections that linger in TIME_WAIT do not make a port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen(1)
            except OSError:
                return False
    return True


def _read(remembered: Path) -> dict[str, int]:
    try:
        stored = json.loads(remembered.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(stored, dict):
        return {}
    return {name: port for name, port in stored.items() if isinstance(port, int) and 1024 < port < 65_536}


def _pick(wish: PortWish, used: set[int], dice: random.Random) -> int:
    pool = _SINGLE if wish.count == 1 else _WORKERS
    for _ in range(_TRIES):
        port = pool.start + dice.randrange((len(pool) - wish.count) // wish.count + 1) * wish.count
        if not _overlaps(port, wish, used) and _all_free(wish, port):
            return port
    raise EmbeddedFleetError(
        "NoFreePort",
        f"No free port was found on {wish.host} between {pool.start} and {pool.stop - 1} for {wish.name}.",
        remedy="End some programs that listen there, and run `roadstead up` again.",
    )


def _overlaps(port: int, wish: PortWish, used: set[int]) -> bool:
    return not used.isdisjoint(range(port, port + wish.count))


def _free_by(wish: PortWish, port: int, deadline: float) -> bool:
    while not _all_free(wish, port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _all_free(wish: PortWish, port: int) -> bool:
    return all(is_free(wish.host, number) for number in range(port, port + wish.count))
