"""One door to the API server: requests with a timeout, watches with a limit on silence, errors in words.

Plain JSON objects go in and out; the client's generated models would parse everything twice and know nothing of ours.
The connection, TLS, tokens and their renewal are ``kubernetes.aio``'s. Its ``Watch`` is not used: after "410 Gone" it
asks again for the same version instead of listing anew. What the server says in ``Retry-After`` is kept to here.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import kopf
from kubernetes.aio import client, config

from roadstead.adapters.kube.retry_after import NotYet, RetryAfter
from roadstead.adapters.kube.server_clock import ServerClock
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.ports import DoorError

K = TypeVar("K")
Object = dict[str, Any]
"""A Kubernetes object as JSON."""

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
UNAVAILABLE = "ApiServerUnavailable"


class ApiRefused(DoorError):
    """The API server answered, and not with what was asked for."""

    def __init__(self, *, status: int, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.status = status


class Api:
    """A connection to one API server; made by :func:`connected`."""

    def __init__(self, connection: client.ApiClient, settings: KubeSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._retry_after = RetryAfter()
        self.clock = ServerClock()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout_seconds: float | None = None,
        at_once: bool = False,
    ) -> Object:
        """One request and its answer. ``at_once`` does not wait although the server asked others to.

        Raises ``ApiRefused`` with the server's own reason and sentence, or ``DoorError`` when there was no answer: then
        it is not known whether the request was carried out.
        """
        seconds = timeout_seconds or self._settings.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds), self._in_time(path, at_once=at_once):
                response = await self._open(method, path, query=query, body=body, content_type=content_type)
                try:
                    text = await response.read()
                finally:
                    response.release()
        except (aiohttp.ClientError, OSError) as error:
            raise _no_answer(method, path, error) from error
        return _answer(response.status, text, where=f"{method} {path}")

    async def read_list(
        self, path: str, *, keep: Callable[[Object], K], query: Mapping[str, str] | None = None, page: int = 500
    ) -> tuple[list[K], str]:
        """What ``keep`` makes of all objects, and the resource version to watch from.

        Page by page: of thousands, the words weigh ten times what is kept.
        """
        items: list[K] = []
        position: dict[str, str] = {}
        while True:
            answer = await self.request("GET", path, query={**(query or {}), "limit": str(page), **position})
            for item in answer.get("items") or ():
                item["metadata"].pop("managedFields", None)  # more than half of an object, and of no use here
                items.append(keep(item))
            metadata = answer.get("metadata", {})
            if not metadata.get("continue"):
                return items, metadata.get("resourceVersion", "")
            position = {"continue": metadata["continue"]}

    async def list(self, path: str, *, query: Mapping[str, str] | None = None) -> tuple[list[Object], str]:
        """All objects, and the resource version to watch from."""
        return await self.read_list(path, query=query, keep=lambda item: item)

    async def watch(
        self,
        path: str,
        *,
        query: Mapping[str, str],
        resource_version: str,
        seconds: float,
        opened: Callable[[], None],
    ) -> AsyncGenerator[Object]:
        """Events since a version, bookmarks included, until the server ends the watch after ``seconds``.

        ``opened`` is called when the server agreed; the first event may be a minute away.

        Raises ``ApiRefused`` (status 410: list anew) and ``DoorError`` (connection lost, or silent for too long).
        """
        asked = {
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        silence = self._settings.silence_seconds
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._settings.request_timeout_seconds, sock_read=silence
        )
        try:
            async with self._in_time(path):
                response = await self._open("GET", path, query=asked, timeout=timeout)
            try:
                if response.status != 200:
                    _answer(response.status, await response.read(), where=f"GET {path}")
                opened()
                while line := await response.content.readline():
                    yield _event(line, path)
            finally:
                response.close()
        except TimeoutError as error:
            raise DoorError(UNAVAILABLE, f"the watch of {path} was silent for {silence:.0f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _no_answer("watch", path, error) from error

    @asynccontextmanager
    async def _in_time(self, path: str, *, at_once: bool = False) -> AsyncIterator[None]:
        if at_once:
            yield
            return
        try:
            async with self._retry_after.passed(patience_seconds=self._settings.request_timeout_seconds):
                yield
        except NotYet as refused:
            raise ApiRefused(status=429, reason="TooManyRequests", message=f"{refused} ({path})") from refused

    async def kopf_credentials(self) -> kopf.ConnectionInfo:
        """The same server and the same credentials, for Kopf's own client; read anew, as tokens are renewed."""
        settings = await _configuration(self._settings)
        header = await settings.get_api_key_with_prefix("BearerToken")
        return kopf.ConnectionInfo(
            server=settings.host,
            ca_path=settings.ssl_ca_cert,
            insecure=not settings.verify_ssl,
            token=header.split(" ", 1)[-1] if header else None,
            certificate_path=settings.cert_file,
            private_key_path=settings.key_file,
            proxy_url=settings.proxy,
        )

    async def _open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        verb, url, headers, content, _ = await self._connection.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._connection.call_api(
            verb, url, header_params=headers, body=content, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        self._retry_after.heard(response.status, response.headers.get("Retry-After"))
        self.clock.heard(response.headers.get("Date"))
        return response


@asynccontextmanager
async def connected(settings: KubeSettings) -> AsyncIterator[Api]:
    """An :class:`Api`, closed at the end."""
    connection = client.ApiClient(await _configuration(settings))
    try:
        yield Api(connection, settings)
    finally:
        await connection.close()  # type: ignore[no-untyped-call]


async def _configuration(settings: KubeSettings) -> client.Configuration:
    path = str(settings.kubeconfig) if settings.kubeconfig else os.environ.get("KUBECONFIG")
    found = client.Configuration()
    try:
        if path:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=path, client_configuration=found, persist_config=False
            )
        else:
            config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise DoorError("ApiServerUnknown", f"no way to an API server: {error} (KUBECONFIG={path})") from error
    return found


def _event(line: bytes, path: str) -> Object:
    event: Object = json.loads(line)
    if event.get("type") == "ERROR":
        raise _refusal(event.get("object", {}), where=f"watch {path}")
    return event


def _answer(status: int, text: bytes, *, where: str) -> Object:
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = {"message": text[:200].decode(errors="replace")}
    if 200 <= status < 300 and isinstance(body, dict):
        return body
    raise _refusal({"code": status, **(body if isinstance(body, dict) else {})}, where=where)


def _refusal(status: Mapping[str, Any], *, where: str) -> ApiRefused:
    code = int(status.get("code") or 0)
    message = str(status.get("message") or "no reason given")
    return ApiRefused(status=code, reason=str(status.get("reason") or f"Http{code}"), message=f"{message} ({where})")


def _no_answer(method: str, path: str, error: BaseException) -> DoorError:
    return DoorError(UNAVAILABLE, f"{method} {path}: {str(error) or type(error).__name__}")
