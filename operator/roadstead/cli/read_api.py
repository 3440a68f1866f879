"""The read API, as a command asks it: directly on one machine, through the API server's service proxy in a cluster."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ValidationError

from roadstead.api.answers import Problem
from roadstead.cli.failures import CommandError
from roadstead.cli.kube import KubeApi, KubeRefused, Object, Query, json_object, refusal

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

TOKEN_HEADER: Final = "X-Roadstead-Api-Token"  # noqa: S105 - a header's name
_CONNECT_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 60.0
_BLOCK_BYTES: Final = 64 * 1024

A = TypeVar("A", bound=BaseModel)


class Way(Protocol):
    """How requests reach the API."""

    @property
    def words(self) -> str:
        """Whose API it is, for a sentence."""

    def open(self, path: str, *, query: Query, endless: bool, body: Object | None = None) -> BaseHTTPResponse:
        """The answer, whatever its status; ``CommandError`` if nobody answers. What has a body is posted."""


@dataclass(frozen=True, slots=True)
class Direct:
    """On one machine."""

    url: str
    token_file: Path | None

    @property
    def words(self) -> str:
        return f"the operator at {self.url}"

    def open(self, path: str, *, query: Query, endless: bool, body: Object | None = None) -> BaseHTTPResponse:
        import urllib3  # noqa: PLC0415 - `--help` must not load the world

        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=None if endless else _ANSWER_SECONDS)
        try:
            return urllib3.PoolManager(retries=False).request(
                "GET" if body is None else "POST",
                f"{self.url.rstrip('/')}{path}?{urlencode(query, doseq=True)}",
                headers={TOKEN_HEADER: token_in(self.token_file)},
                json=body,
                timeout=timeout,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise CommandError(
                "ReadApiUnreachable",
                f"The operator's read API at {self.url} does not answer.",
                remedy="See `roadstead status`; `roadstead up` starts what is missing.",
            ) from error


@dataclass(frozen=True, slots=True)
class Proxied:
    """In a cluster. The token comes from the Secret, or from ``token_file`` for people who may not read that."""

    kube: KubeApi
    namespace: str
    release: str
    token_file: Path | None = None

    @property
    def words(self) -> str:
        return f"the operators of release {self.release} in namespace {self.namespace}"

    def open(self, path: str, *, query: Query, endless: bool, body: Object | None = None) -> BaseHTTPResponse:
        service = f"/api/v1/namespaces/{self.namespace}/services/{self.release}-api:api/proxy"
        headers = {TOKEN_HEADER: self._token(), "Accept": "*/*"}
        if body is None:
            return self.kube.open("GET", f"{service}{path}", query=query, headers=headers, endless=endless)
        headers["Content-Type"] = "application/json"
        return self.kube.open("POST", f"{service}{path}", query=query, headers=headers, body=body, endless=endless)

    def _token(self) -> str:
        if self.token_file is not None:
            return token_in(self.token_file)
        name = f"{self.release}-tokens"
        try:
            secret = self.kube.get(f"/api/v1/namespaces/{self.namespace}/secrets/{name}")
            return b64decode(secret["data"]["api.token"]).decode("ascii").strip()
        except KubeRefused as refused:
            if refused.http_status != 404:
                raise
            raise CommandError(
                "NoSuchRelease",
                f"There is no Secret {self.namespace}/{name}: no release {self.release} is installed there.",
                remedy="Name the namespace with --in and the Helm release with --release; `helm list -A` lists them.",
            ) from refused
        except (KeyError, TypeError, ValueError) as error:
            raise CommandError(
                "TokenUnusable",
                f"The Secret {self.namespace}/{name} holds no api.token.",
                remedy="Upgrade the release: the chart adds what is missing.",
            ) from error


class ReadApi:
    """Questions and streams."""

    def __init__(self, way: Way) -> None:
        self._way = way

    def ask(self, path: str, shape: type[A], *, query: Query | None = None, body: Object | None = None) -> A:
        """The answer in its shape; ``CommandError``."""
        answer = self._opened(path, query=query or {}, endless=False, body=body)
        try:
            return shape.model_validate_json(answer.data)
        except ValidationError as error:
            raise CommandError(
                "AnswerNotUnderstood",
                f"{self._way.words} answered something else than a {shape.__name__}.",
                remedy="Use the command of the same version as the operator.",
                about=path,
            ) from error

    def lines(self, path: str, *, query: Query, endless: bool) -> Iterator[bytes]:
        """Blocks of text as they come; ``CommandError`` if the stream breaks."""
        import urllib3  # noqa: PLC0415 - loaded by now

        answer = self._opened(path, query=query, endless=endless)
        try:
            yield from answer.stream(_BLOCK_BYTES)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise CommandError(
                "StreamBroken",
                f"The stream from {self._way.words} has ended in the middle.",
                remedy="Run the command again: the operator that answered may have been replaced.",
            ) from error
        finally:
            answer.close()

    def _opened(self, path: str, *, query: Query, endless: bool, body: Object | None = None) -> BaseHTTPResponse:
        answer = self._way.open(path, query=query, endless=endless, body=body)
        if answer.status == 200:
            return answer
        content = json_object(answer.data)
        try:
            problem = Problem.model_validate(content)
        except ValidationError:
            pass
        else:
            raise CommandError(problem.code, problem.message, remedy=problem.remedy, about=problem.object)
        if answer.status in (404, 503) and content.get("kind") == "Status":
            raise CommandError(
                "ReadApiUnreachable",
                f"Nobody answers for {self._way.words}: {content.get('message')}.",
                remedy="See whether its Pods run: `kubectl get pods -l app.kubernetes.io/component=operator -A`.",
            )
        raise refusal(answer.status, content, about=path)


def token_in(path: Path | None) -> str:
    """The token; ``CommandError`` ``TokenUnusable``."""
    if path is None:
        raise CommandError(
            "TokenUnusable",
            "ROADSTEAD_API is set, but not ROADSTEAD_API_TOKEN_FILE.",
            remedy="Source the fleet's environment: `. .roadstead/env`.",
        )
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise CommandError(
            "TokenUnusable",
            f"The token file {path} cannot be read.",
            remedy="See that ROADSTEAD_API_TOKEN_FILE names the right one, and that you may read it.",
        ) from error


def model_path(namespace: str, name: str) -> str:
    """Where the API tells of one model."""
    return f"/v1/models/{quote(namespace, safe='')}/{quote(name, safe='')}"
