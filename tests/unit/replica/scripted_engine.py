"""An engine that does what its command line says, as a child: ``python scripted_engine.py <mode> <key variable>``.

Modes: ``serve`` (answers), ``slow`` (healthy after a while), ``refuse`` (says why, returns 1), ``hang`` (says
nothing), ``once`` (serves the first time, refuses afterwards, by a file beside it). ``POST /die`` ends it at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        healthy = time.monotonic() > HEALTHY_AT
        self.send_response(200 if healthy else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def log_message(self, *_: object) -> None:
        pass


HEALTHY_AT = time.monotonic()

if __name__ == "__main__":
    mode, state = sys.argv[1], Path(sys.argv[2])
    if mode == "once" and state.exists():
        mode = "refuse"
    state.touch()
    sys.stderr.write("loading\n")
    sys.stderr.flush()
    match mode:
        case "refuse":
            sys.stderr.write("error: data is not within the file bounds\n")
            sys.exit(1)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            signal.pause()
        case "slow":
            HEALTHY_AT += 0.3
        case _:
            pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"listening on http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
