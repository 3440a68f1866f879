"""As much of Postgres' wire protocol (version 3) as is needed to see where a transaction is committed.

A message is a type byte, a length of four bytes that counts itself, and a body; only what a client says first has no
type. https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Final

_ENCRYPTION: Final = {80877103, 80877104}
"""The codes by which a client asks for TLS or GSSAPI before it says anything else."""
UNFINISHED: Final = frozenset({b"P", b"B", b"D", b"E", b"C"})
"""Kinds that a client sends before others, which end the question: a Sync, as a rule."""
_WRITING: Final = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})


@dataclass(frozen=True, slots=True)
class Message:
    """One message; the type is empty for a client's first."""

    kind: bytes
    body: bytes

    @property
    def wire(self) -> bytes:
        """As it is sent."""
        return self.kind + struct.pack("!I", len(self.body) + 4) + self.body


async def read_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message:
    """A client's startup message (or its request to cancel); encryption is declined, as by a server without it."""
    while True:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        body = await reader.readexactly(length - 4)
        if length != 8 or struct.unpack("!I", body)[0] not in _ENCRYPTION:
            return Message(b"", body)
        writer.write(b"N")
        await writer.drain()


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Any later message of either side. Raises ``IncompleteReadError`` at the end of the stream."""
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    return Message(kind, await reader.readexactly(length - 4))


@dataclass(slots=True)
class Conversation:
    """What one connection has said so far: whether a transaction wrote, and whether this message commits it."""

    wrote: bool = False
    committing: bool = False
    """A COMMIT was sent, and the server is not ready for the next query yet."""
    _statements: dict[bytes, bytes] = field(default_factory=dict)
    _portals: dict[bytes, bytes] = field(default_factory=dict)

    def asks_to_commit(self, message: Message) -> bool:
        """Follow what the client says; whether this message is a COMMIT."""
        parts = message.body.split(b"\0", 2)
        query = b""
        match message.kind:
            case b"Q":
                query = parts[0]
            case b"P":
                self._statements[parts[0]] = parts[1]
            case b"B":
                self._portals[parts[0]] = self._statements.get(parts[1], b"")
            case b"E":
                query = self._portals.get(parts[0], b"")
            case _:
                pass
        return query.strip().rstrip(b";").upper() in (b"COMMIT", b"END")

    def hears(self, message: Message) -> None:
        """Follow what the server says."""
        if message.kind == b"C":
            words = message.body.rstrip(b"\0").decode("ascii", "replace").split()
            if words[0] in ("COMMIT", "ROLLBACK"):
                self.wrote = False
            elif words[0] in _WRITING and words[-1] != "0":
                self.wrote = True
        elif message.kind == b"Z":
            self.committing = False
