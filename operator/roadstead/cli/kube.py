"""The API server, as the person's kubeconfig reaches it: certificates, tokens and login helpers included.

Everything goes through the official client's own request, so whatever kubectl can log in with works here. The client is
imported when it is first needed: it costs half a second.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

from roadstead.cli.failures import CommandError

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

Object = dict[str, Any]
Query = Mapping[str, str | Sequence[str]]
"""Of a parameter that may come several times, all values."""
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0


class KubeRefused(CommandError):
    """The API server said no."""

    def __init__(self, http_status: int, reason: str, message: str, *, about: str) -> None:
        remedy = {
            401: "Log in again: your kubeconfig's credentials are not accepted.",
            403: "Ask for this right, or for somebody who has it: docs/reference/cli.md lists what each command needs.",
        }.get(http_status, "Look at the object with kubectl.")
        super().__init__(reason or f"Http{http_status}", message, remedy=remedy, about=about)
        self.http_status = http_status


class KubeApi:
    """One cluster; ``namespace`` is the current one of the context."""

    def __init__(self, client: Any, *, namespace: str) -> None:  # noqa: ANN401 - the client is untyped where it matters
        self._client = client
        self.namespace = namespace

    @classmethod
    def of_context(cls, context: str | None) -> Self:
        """By ``KUBECONFIG`` or ``~/.kube/config``; ``CommandError`` ``KubeconfigUnusable``."""
        from kubernetes.config import kube_config  # noqa: PLC0415 - half a second
        from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415

        # The client looks at KUBECONFIG once, when it is imported.
        files = os.environ.get("KUBECONFIG") or "~/.kube/config"
        try:
            contexts, current = kube_config.list_kube_config_contexts(files)  # type: ignore[no-untyped-call]
            client = kube_config.new_client_from_config(files, context=context)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError, ValueError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise CommandError(
                "KubeconfigUnusable",
                f"No cluster can be reached with your kubeconfig: {why}.",
                remedy="Set KUBECONFIG, name a context with --kube-context, or source .roadstead/env on one machine.",
            ) from error
        chosen = next((each for each in contexts if each["name"] == context), current) if context else current
        return cls(client, namespace=str(chosen.get("context", {}).get("namespace") or "default"))

    def get(self, path: str, **query: str) -> Object:
        """A JSON object; ``KubeRefused``, or ``CommandError`` ``ApiServerUnreachable``."""
        return self._json("GET", path, query=query)

    def merge(self, path: str, patch: Object) -> Object:
        """A JSON merge patch."""
        return self._json("PATCH", path, body=patch, headers={"Content-Type": "application/merge-patch+json"})

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: Object | None = None,
        endless: bool = False,
    ) -> BaseHTTPResponse:
        """The answer, whatever its status, still to be read."""
        import urllib3  # noqa: PLC0415 - comes with the client
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415

        request = self._client.param_serialize(
            method=method,
            resource_path=f"{path}?{urlencode(query, doseq=True)}" if query else path,
            header_params={"Accept": "application/json", **(headers or {})},
            body=body,
            auth_settings=["BearerToken"],
        )
        timeout = (_CONNECT_SECONDS, None if endless else _ANSWER_SECONDS)
        try:
            answer: BaseHTTPResponse = self._client.call_api(*request, _request_timeout=timeout).response
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise CommandError(
                "ApiServerUnreachable",
                f"The API server of {self._client.configuration.host} does not answer: {type(error).__name__}.",
                remedy="See whether `kubectl get nodes` works with the same context.",
            ) from error
        return answer

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: Object | None = None,
    ) -> Object:
        answer = self.open(method, path, query=query, headers=headers, body=body)
        content = json_object(answer.data)
        if answer.status >= 300:
            raise refusal(answer.status, content, about=path)
        return content


def refusal(http_status: int, content: Object, *, about: str) -> KubeRefused:
    """What a ``Status`` object says."""
    message = str(content.get("message") or f"The API server answered {http_status}").rstrip(".")
    return KubeRefused(http_status, str(content.get("reason") or ""), f"{message}.", about=about)


def json_object(content: bytes) -> Object:
    """The object in an answer; empty if there is none."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
