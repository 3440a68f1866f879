"""Transactions on Postgres for an event loop, each with an end.

SQLAlchemy's plain engine in a few threads of its own, rather than its asyncio face: that one needs greenlets, and a
handful of short transactions a minute gain nothing from them. What a thread cannot do is be cancelled, so an answer
that stays out (a frozen server, a cut cable) is ended by shutting the connections' sockets down: the waiting thread
then gets an error at once, the pool drops the connection, and the number of waiting threads stays bounded.

Guarantee: :meth:`Database.transact` returns or raises within ``PATIENCE_SECONDS``. :class:`AnswerLost` says that the
transaction may or may not have been committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from roadstead.adapters.postgres.address import STATEMENT_SECONDS, AddressProblem, connection_arguments
from roadstead.domain.reasons import Reason
from roadstead.ports import DoorError

PATIENCE_SECONDS: Final = 12.0
"""For one transaction, connecting included: more than any single statement may take."""
_LOCK_SECONDS: Final = 3
_THREADS: Final = 4
_READ_ONLY: Final = "25006"

T = TypeVar("T")


class LedgerDown(DoorError):
    """Postgres refused or could not be reached; nothing was written."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.LEDGER_UNAVAILABLE, message)


class AnswerLost(LedgerDown):
    """The connection ended in the middle: whether the transaction was committed has to be read back."""


class ReadOnly(LedgerDown):
    """The connection leads to a server that accepts no writes, which a failover leaves behind."""

    def __init__(self) -> None:
        super().__init__("this Postgres accepts no writes (a failover?); connecting anew")


class Database:
    """A small pool of connections and the threads that wait for them."""

    def __init__(self, address: Callable[[], URL], *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience = patience_seconds
        self._address = address
        self._arguments = connection_arguments(
            application="roadstead-operator", lock_seconds=_LOCK_SECONDS, statement_seconds=STATEMENT_SECONDS
        )
        self._engine = create_engine(
            address(),
            pool_size=_THREADS,
            max_overflow=0,
            pool_timeout=patience_seconds,
            pool_pre_ping=True,
            pool_recycle=900,
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ledger")
        self._connections: WeakSet[Any] = WeakSet()
        event.listen(self._engine, "do_connect", self._to_the_address_of_now)
        event.listen(self._engine, "after_cursor_execute", _count_idleness_again)
        event.listen(self._engine, "connect", lambda connection, _: self._connections.add(connection))

    async def transact(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in one transaction and commit; raises :class:`DoorError`, or what ``work`` raised."""
        answer = asyncio.get_running_loop().run_in_executor(self._threads, self._transact, work)
        answer.add_done_callback(_looked_at)
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(answer)
        except TimeoutError:
            raise AnswerLost(f"Postgres did not answer within {self._patience:g} s") from None
        finally:
            if not answer.done():
                answer.cancel()
                self._cut()

    async def close(self) -> None:
        """Give up what is under way and the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._cut()
        self._engine.dispose()

    def _to_the_address_of_now(
        self, dialect: Dialect, _record: object, positional: list[Any], named: dict[str, Any]
    ) -> None:
        """A password or a host that was changed holds for every new connection, without a restart."""
        first, then = dialect.create_connect_args(self._address())
        positional[:] = first
        named.clear()
        named.update({**then, **self._arguments})

    def _transact(self, work: Callable[[Session], T]) -> T:
        connected = False
        try:
            with self._engine.connect() as connection:
                connected = True
                with connection.begin(), Session(connection) as session:
                    result = work(session)
                    session.flush()
                return result
        except ReadOnly:
            # The pool would hold on to the old primary for ever: only new connections look for the new one.
            self._engine.dispose()
            raise
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _READ_ONLY:
                self._engine.dispose()
                raise ReadOnly from error
            if connected and error.connection_invalidated:
                raise AnswerLost(first_line(error)) from error
            raise LedgerDown(first_line(error)) from error
        except SQLAlchemyError as error:
            raise LedgerDown(first_line(error)) from error
        except AddressProblem as problem:
            raise LedgerDown(str(problem)) from problem

    def _cut(self) -> None:
        for connection in list(self._connections):
            # Closed meanwhile is as good: psycopg and the system say so by an error.
            with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)


def _count_idleness_again(connection: Connection, *told: object) -> None:
    """Have the server end this transaction if we are stopped in the middle of it.

    psycopg sends many rows as a pipeline, and after it a Flush; with that Postgres (18, at least) forgets its
    ``idle_in_transaction_session_timeout`` until the next statement. A leader that is stopped before its COMMIT would
    hold the epoch's row, and keep its successor from writing for as long as it is stopped.
    """
    *_, of_many_rows = told
    if of_many_rows:
        connection.exec_driver_sql("SELECT 1")


def first_line(error: SQLAlchemyError) -> str:
    """What went wrong in one line, without the statement and its parameters."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def _looked_at(answer: asyncio.Future[T]) -> None:
    """An answer that nobody waits for any more is not worth asyncio's complaint."""
    if not answer.cancelled():
        answer.exception()
