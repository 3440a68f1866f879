"""How to reach the API server: a kubeconfig, or the service account of the pod.

Just enough for one list and one watch, because the gateway's image has no Kubernetes client: server, CA, and either a
client certificate or a token. Login plugins (``exec``, ``auth-provider``) are refused by name; they are for people.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class AccessUnknown(Exception):
    """There is no way to the API server that we can read; the message says which part is wrong, never its value."""


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where the API server is and what to show it."""

    server: str
    tls: ssl.SSLContext | bool
    token: str = ""
    token_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """Read anew each time: a service account's token is replaced about every hour."""
        token = self.token_file.read_text(encoding="ascii").strip() if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}


def find_access(kubeconfig: Path | None) -> ApiAccess:
    """Read the kubeconfig if one is named, else what the pod was given."""
    try:
        return _from_kubeconfig(kubeconfig) if kubeconfig else _from_pod(os.environ)
    except (OSError, ssl.SSLError, yaml.YAMLError, binascii.Error, UnicodeDecodeError) as error:
        place = str(kubeconfig or SERVICE_ACCOUNT)
        raise AccessUnknown(f"{place} cannot be read: {type(error).__name__}") from error


def _from_pod(environment: Mapping[str, str]) -> ApiAccess:
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise AccessUnknown("neither KUBECONFIG is set nor is this a pod")
    shown = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    return ApiAccess(f"https://{shown}:{port}", tls, token_file=SERVICE_ACCOUNT / "token")


def _from_kubeconfig(path: Path) -> ApiAccess:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise AccessUnknown(f"{path} is not a kubeconfig")
    context = _named(config, "contexts", "context", config.get("current-context"))
    cluster = _named(config, "clusters", "cluster", context.get("cluster"))
    user = _named(config, "users", "user", context.get("user"))
    for plugin in ("exec", "auth-provider"):
        if plugin in user:
            raise AccessUnknown(f"{path}: users of kind `{plugin}` cannot be used here; use a certificate or a token")
    server = cluster.get("server")
    if not isinstance(server, str):
        raise AccessUnknown(f"{path}: the cluster has no server")
    token, token_file = user.get("token"), user.get("tokenFile")
    return ApiAccess(
        server.rstrip("/"),
        _tls(path.parent, cluster, user) if server.startswith("https:") else False,
        token=token if isinstance(token, str) else "",
        token_file=path.parent / token_file if isinstance(token_file, str) else None,
    )


def _named(config: dict[str, object], plural: str, singular: str, name: object) -> dict[str, object]:
    items = config.get(plural)
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("name") == name:
            found = item.get(singular)
            return found if isinstance(found, dict) else {}
    raise AccessUnknown(f"the kubeconfig has no {singular} of the name its current context asks for")


def _tls(folder: Path, cluster: dict[str, object], user: dict[str, object]) -> ssl.SSLContext:
    authority = _pem(folder, cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
    if cluster.get("insecure-skip-tls-verify") is True:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _pem(folder, user, "client-certificate"), _pem(folder, user, "client-key")
    if certificate and key:
        # OpenSSL reads a chain from a file only; this one is ours alone (0600) and is gone when the context has it.
        with tempfile.NamedTemporaryFile(prefix="roadstead-") as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _pem(folder: Path, part: dict[str, object], field: str) -> bytes:
    data, name = part.get(f"{field}-data"), part.get(field)
    if isinstance(data, str):
        return base64.b64decode(data, validate=True)
    return (folder / name).read_bytes() if isinstance(name, str) else b""
