"""Carries connections from a listening socket of the host into a machine's network.

Run in the machine's network namespace with a socket that was opened outside: a socket stays in the namespace it was
made in, so nothing has to be set up on either side.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys

from tests.cluster.machine import cgroups
from tests.cluster.machine.home import CHECKOUT, ClusterHome
from tests.cluster.machine.machines import entering

_CHUNK_BYTES = 1 << 16


def start_forwarder(
    home: ClusterHome, machine_pid: int, *, address: str, port: int, survives: bool = False
) -> tuple[subprocess.Popen[bytes], int]:
    """A process that forwards a free port of 127.0.0.1 to `address:port` as the machine reaches it; and that port.

    It belongs to the cluster and ends with it; unless it `survives`, also with the returned process.
    """
    with socket.socket() as listening, (home.logs / "forwarder.log").open("ab") as log:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        command = [*entering(machine_pid, "--net"), sys.executable, "-m", "tests.cluster.machine.forwarder"]
        command += [str(listening.fileno()), address, str(port)]
        group = f"{home.cgroup}/forwarders"
        cgroups.create(group)
        with cgroups.joined(group):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                pass_fds=[listening.fileno()],
                start_new_session=survives,
            )
        return process, int(listening.getsockname()[1])


async def _serve(listening: socket.socket, address: str, port: int) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(address, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_carry(reader, inner_writer), _carry(inner_reader, writer))

    server = await asyncio.start_server(accept, sock=listening)
    await server.serve_forever()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        # Half closed, as the one end did: the other may still have something to say.
        writer.write_eof()
    except OSError:
        writer.transport.abort()
        return
    with contextlib.suppress(OSError):
        await writer.drain()


def main() -> None:
    descriptor, address, port = sys.argv[1:]
    asyncio.run(_serve(socket.socket(fileno=int(descriptor)), address, int(port)))


if __name__ == "__main__":
    main()
