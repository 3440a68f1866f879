"""The ledger: what Postgres remembers, and whether it answers.

A probe asks every few seconds, so that :meth:`PostgresLedger.facts` never waits; every transaction that succeeds counts
as an answer too. Everything written carries the leader's epoch and is fenced by it. Nothing here decides what is
recorded, and nothing is ever held up: a ledger that is away means :class:`DoorError` for the one action that needs it
(a new release) and a later :meth:`PostgresLedger.reconcile`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

import structlog
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from roadstead.adapters.postgres.database import AnswerLost, Database, ReadOnly
from roadstead.adapters.postgres.fence import Writer
from roadstead.adapters.postgres.measuring import Recorded, changes, follow, read_recorded, write_changes
from roadstead.adapters.postgres.numbering import find_release, number_release
from roadstead.adapters.postgres.quality_records import KnownRecords, read_known_records, write_records
from roadstead.adapters.postgres.reconciling import changed_models, reconcile
from roadstead.adapters.postgres.schema_version import SchemaProblem, check_schema, read_schema
from roadstead.domain.measured import Shown
from roadstead.domain.model import Model
from roadstead.domain.plan import World
from roadstead.domain.release import Content, contents_digest
from roadstead.domain.snapshot import Known, LedgerFacts, Part, Stale, Unknown
from roadstead.ports import DoorError

FRESH: Final = timedelta(seconds=30)
_PROBE_SECONDS: Final = 5.0
_ROWS_AT_ONCE: Final = 1_000
"""Of measurements, in one transaction: a large fleet's first ones must fit into the time that it has."""

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    """What a leader of some epoch has written, or found, of measurements."""

    epoch: int
    recorded: dict[str, Recorded]
    records: KnownRecords


class PostgresLedger:
    """Answers to the port ``Ledger``. Use as an async context: it owns the probe, the threads and the connections."""

    def __init__(
        self,
        address: Callable[[], URL],
        *,
        installation: str,
        epoch: Callable[[], int],
        clock: Callable[[], datetime],
        poke: Callable[[str], None] = lambda _: None,
        probe_seconds: float = _PROBE_SECONDS,
        patience_seconds: float | None = None,
    ) -> None:
        self._database = (
            Database(address) if patience_seconds is None else Database(address, patience_seconds=patience_seconds)
        )
        self._facts = LedgerFacts(installation=installation)
        self._epoch = epoch
        self._clock = clock
        self._poke = poke
        self._probe_seconds = probe_seconds
        self._answered: datetime | None = None
        self._why = "not asked yet"
        self._schema_fits = False
        self._reconciled: tuple[World, int] | None = None
        self._reconciling = asyncio.Lock()
        self._history: _History | None = None
        self._remembering = asyncio.Lock()
        self._probe: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._probe = asyncio.create_task(self._keep_probing(), name="ledger probe")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        await self._database.close()

    def facts(self) -> Part[LedgerFacts]:
        """Known if Postgres answered in the last 30 s."""
        if self._answered is None:
            return Unknown(self._why)
        if self._clock() - self._answered <= FRESH:
            return Known(self._facts)
        return Stale(self._facts, self._answered)

    async def require_schema(self) -> None:
        """Raise :class:`SchemaProblem` if this program and the schema do not fit, :class:`DoorError` if nobody answers.

        A process ends on the first and goes on without a ledger on the second.
        """
        await self._database.transact(_check_schema)
        self._schema_fits = True
        self._note_answer()

    async def number_release(self, model: Model, contents: tuple[Content, ...], *, above: int = 0) -> int:
        """Record artifacts, contents and release; the same set of contents returns to its old number."""
        writer = self._writer()

        def number(session: Session) -> int:
            return number_release(session, writer, model=model, contents=contents, above=above)

        try:
            return await self._transact(number)
        except AnswerLost:
            found = await self._read_back(model, contents)
            if found is None:
                raise
            return found

    async def reconcile(self, world: World) -> None:
        """Open and close rows until they equal the world; nothing to do if it is the world of the last time."""
        async with self._reconciling:
            writer = self._writer()
            before, self._reconciled = self._reconciled, None
            if before != (world, writer.epoch):
                known = before is not None and before[1] == writer.epoch
                only = changed_models(before[0], world) if before is not None and known else None
                await self._transact(lambda session: reconcile(session, writer, world, only=only))
            self._reconciled = (world, writer.epoch)

    async def remember(self, shown: Shown) -> None:
        """Write what is news of measurements; what was written is read once, and then known."""
        async with self._remembering:
            writer = self._writer()
            history, self._history = self._history, None
            if history is None or history.epoch != writer.epoch:
                history = await self._transact(partial(_read_history, writer=writer))
            changed = changes(history.recorded, shown)
            for some in _in_parts(changed):
                await self._transact(partial(write_changes, writer=writer, written=some, shown=shown))
            new = history.records.new_in(shown)
            for records in _in_parts(new):
                await self._transact(partial(write_records, writer=writer, new=records))
            follow(history.recorded, shown, changed)
            history.records.follow(shown, new)
            self._history = history

    async def _read_back(self, model: Model, contents: tuple[Content, ...]) -> int | None:
        """Whether the transaction whose answer was lost was committed. Never repeats it: the next turn asks again."""
        installation, digest = self._facts.installation, contents_digest(contents)
        return await self._transact(
            lambda session: find_release(session, installation=installation, model=model.key, digest=digest)
        )

    async def _transact(self, work: Callable[[Session], T]) -> T:
        answer = await self._database.transact(work)
        if self._schema_fits:
            self._note_answer()
        return answer

    async def _keep_probing(self) -> None:
        while True:
            try:
                await self._database.transact(_ping if self._schema_fits else _check_schema)
            except (DoorError, SchemaProblem) as problem:
                self._note_failure(problem.message if isinstance(problem, DoorError) else str(problem))
            else:
                self._schema_fits = True
                self._note_answer()
            await asyncio.sleep(self._probe_seconds)

    def _note_answer(self) -> None:
        was_known = isinstance(self.facts(), Known)
        self._answered = self._clock()
        self._why = ""
        if not was_known:
            log.info("ledger.answers", installation=self._facts.installation)
            self._poke("ledger")

    def _note_failure(self, why: str) -> None:
        if why != self._why:
            log.warning("ledger.away", message=why)
        self._why = why
        # Whatever comes back may be a restored backup: look at every row again.
        self._reconciled = None
        self._history = None
        self._schema_fits = False

    def _writer(self) -> Writer:
        return Writer(installation=self._facts.installation, epoch=self._epoch(), now=self._clock())


def _ping(session: Session) -> None:
    if session.scalar(text("SHOW transaction_read_only")) == "on":
        raise ReadOnly


def _check_schema(session: Session) -> None:
    check_schema(read_schema(session.connection()))


def _read_history(session: Session, writer: Writer) -> _History:
    return _History(
        epoch=writer.epoch,
        recorded=read_recorded(session, writer),
        records=read_known_records(session, writer),
    )


def _in_parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[first : first + _ROWS_AT_ONCE] for first in range(0, len(rows), _ROWS_AT_ONCE))
