"""The history of what engines showed: rows by content and node, opened and closed when figures have moved.

A turn finds out in memory whether there is news. What the open rows say is kept by node, with the agent's answer that
they were last compared with: an agent that has told nothing since costs a look at its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.orm import Session

from roadstead.adapters.postgres.fence import Writer, hold_epoch
from roadstead.adapters.postgres.numbering import storable
from roadstead.adapters.postgres.reconciling import CHANGED, REMOVED
from roadstead.adapters.postgres.schema import MeasurementRow
from roadstead.domain.measured import Measured, Shown, measured_of, news
from roadstead.domain.snapshot import AgentFacts


@dataclass(slots=True, kw_only=True)
class Recorded:
    """The open rows of a node, by content."""

    rows: dict[str, Measured] = field(default_factory=dict)
    compared: AgentFacts | None = None
    """The answer that the rows follow; None: none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """To the row of a content on a node."""

    node: str
    content: str
    closes: str | None
    """Why the open row ends; None where there is none."""
    opens: Measured | None
    """None: the node tells of it no more."""


def read_recorded(session: Session, writer: Writer) -> dict[str, Recorded]:
    """All open rows, by node."""
    found: dict[str, Recorded] = {}
    columns = (
        MeasurementRow.node,
        MeasurementRow.content,
        MeasurementRow.memory_bytes,
        MeasurementRow.tokens_per_second,
        MeasurementRow.first_token_seconds,
    )
    rows = session.execute(
        select(*columns).where(MeasurementRow.installation == writer.installation, MeasurementRow.ended.is_(None))
    )
    for node, content, memory, speed, wait in rows:
        found.setdefault(node, Recorded()).rows[content] = Measured(
            memory_bytes=memory, tokens_per_second=speed, first_token_seconds=wait
        )
    return found


def changes(recorded: Mapping[str, Recorded], shown: Shown) -> list[Change]:
    """What separates the open rows from what is shown. Nodes that have told nothing are left as they are."""
    found = [
        Change(node=node, content=content, closes=REMOVED, opens=None)
        for node in recorded.keys() - shown.nodes
        for content in recorded[node].rows
    ]
    for node, facts in shown.agents.items():
        before = recorded.get(node)
        if before is None or before.compared is None or not _tell_alike(before.compared, facts):
            found.extend(_changes_on(node, before.rows if before is not None else {}, measured_of(facts)))
    return found


def _tell_alike(before: AgentFacts, now: AgentFacts) -> bool:
    """Most answers are those of before, and most others differ in what is free."""
    return before is now or (before.measured_bytes, before.measured_speeds, before.measured_waits) == (
        now.measured_bytes,
        now.measured_speeds,
        now.measured_waits,
    )


def _changes_on(node: str, rows: Mapping[str, Measured], now: Mapping[str, Measured]) -> Iterator[Change]:
    for content in rows.keys() - now.keys():
        yield Change(node=node, content=content, closes=REMOVED, opens=None)
    for content, measured in now.items():
        before = rows.get(content)
        opens = measured if before is None else news(before, measured)
        if opens is not None:
            yield Change(node=node, content=content, closes=None if before is None else CHANGED, opens=opens)


def follow(recorded: dict[str, Recorded], shown: Shown, written: Sequence[Change]) -> None:
    """Take over what was written, and what it was compared with."""
    for change in written:
        rows = recorded.setdefault(change.node, Recorded()).rows
        if change.opens is None:
            del rows[change.content]
        else:
            rows[change.content] = change.opens
    for node in recorded.keys() - shown.nodes:
        del recorded[node]
    for node, facts in shown.agents.items():
        recorded.setdefault(node, Recorded()).compared = facts


def write_changes(session: Session, writer: Writer, written: Sequence[Change], shown: Shown) -> None:
    """One transaction."""
    hold_epoch(session, writer)
    for why in (REMOVED, CHANGED):
        _close(session, writer, [(each.node, each.content) for each in written if each.closes == why], why=why)
    opened = [(each, each.opens, shown.agents[each.node]) for each in written if each.opens is not None]
    if not opened:
        return
    session.execute(
        insert(MeasurementRow),
        [
            {
                "installation": writer.installation,
                "node": change.node,
                "content": change.content,
                "memory_bytes": measured.memory_bytes,
                "tokens_per_second": measured.tokens_per_second,
                "first_token_seconds": measured.first_token_seconds,
                "cores": facts.cores,
                "accelerators": storable(sorted(device.product for device in facts.devices)),
                "started": writer.now,
                "epoch": writer.epoch,
            }
            for change, measured, facts in opened
        ],
    )


def _close(session: Session, writer: Writer, keys: Sequence[tuple[str, str]], *, why: str) -> None:
    if not keys:
        return
    session.execute(
        update(MeasurementRow)
        .where(
            MeasurementRow.installation == writer.installation,
            tuple_(MeasurementRow.node, MeasurementRow.content).in_(keys),
            MeasurementRow.ended.is_(None),
            MeasurementRow.epoch <= writer.epoch,
        )
        .values(ended=writer.now, ended_why=why, epoch=writer.epoch)
        .execution_options(synchronize_session=False)
    )
