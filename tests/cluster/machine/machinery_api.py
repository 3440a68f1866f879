"""A small client for the helpers that run on a node: list, change, and be woken by any change.

Standard library only: four of these processes run beside the tests on two cores, and an import of a full client takes
longer than most of what they do.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

Object = dict[str, Any]
_CONNECT_SECONDS = 10.0
_SILENT_SECONDS = 150.0
"""Bookmarks come every minute: a watch that is silent for longer is dead."""


class Refused(Exception):
    """The API server said no, with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class MachineryApi:
    """One client; each request has a connection of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._address = urlsplit(cluster["server"]).netloc
        self._tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            self._tls.load_cert_chain(pair.name)

    def items(self, path: str) -> list[Object]:
        found: list[Object] = self.request("GET", path)["items"]
        return found

    def request(self, method: str, path: str, body: Object | None = None) -> Object:
        """One request and its answer; raises Refused, OSError or HTTPException."""
        connection = http.client.HTTPSConnection(self._address, timeout=_CONNECT_SECONDS, context=self._tls)
        try:
            content = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise Refused(answer.status, text.decode(errors="replace")[:500])
        result: Object = json.loads(text)
        return result

    def changes(self, path: str) -> Iterator[None]:
        """Once for every object there is and every change after; ends when the server ends the watch."""
        connection = http.client.HTTPSConnection(self._address, timeout=_SILENT_SECONDS, context=self._tls)
        try:
            connection.request("GET", f"{path}?watch=1&allowWatchBookmarks=true")
            answer = connection.getresponse()
            if answer.status != 200:
                raise Refused(answer.status, answer.read(500).decode(errors="replace"))
            while answer.readline():
                yield
        finally:
            connection.close()


class Changes:
    """Wakes one loop when anything below some paths changes; what changed the loop reads for itself."""

    def __init__(self, api: MachineryApi, *paths: str) -> None:
        self._api = api
        self._changed = threading.Event()
        for path in paths:
            threading.Thread(target=self._follow, args=(path,), daemon=True).start()

    def wait(self, *, at_most_seconds: float) -> None:
        """Return soon after a change; what comes within the same moment is one change."""
        if self._changed.wait(at_most_seconds):
            time.sleep(0.05)
        self._changed.clear()

    def _follow(self, path: str) -> None:
        while True:
            try:
                for _ in self._api.changes(path):
                    self._changed.set()
            except (OSError, http.client.HTTPException, Refused):
                time.sleep(0.5)
            self._changed.set()
