"""Where weights may come from: source URIs, parsed strictly, and the policy that allows them.

``file:///absolute/path`` under an allowed root, ``https://`` from any host, ``http://`` from a host that is named in
the node's settings. A named host is written ``host`` (any port) or ``host:port``; IPv6 in brackets.

Whoever may write a LocalModel can make an agent open a connection, so addresses of the node itself and of its link
(127.0.0.0/8, 169.254.0.0/16 where clouds keep credentials, and their like) are refused unless their host is named, also
when a name leads there (``sources_http`` looks at what it resolves to). Private networks are not: an organisation's
models live there, https proves who answers, and NetworkPolicy is the place to forbid more. Redirects are checked by the
same policy, hop by hop.

Not here: credentials. A URI that carries some is refused, because URIs are shown in status and logs.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from roadstead_weights.errors import WeightsCode, WeightsError

_URI_LIMIT: Final = 4_096
_ALLOWED_CHARACTERS: Final = re.compile(r"[!#-;=?-\[\]_a-z~%]+", re.ASCII)
_PICKLES: Final = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of the node."""

    uri: str
    path: PurePosixPath

    @property
    def label(self) -> str:
        """What errors and logs call it."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A file behind HTTP."""

    uri: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def label(self) -> str:
        """What errors and logs call it: without the query, which may be a signature."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}{self.path}"


Source = FileSource | HttpSource


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """What this node may read."""

    roots: tuple[Path, ...] = ()
    http_hosts: frozenset[str] = frozenset()

    def allow_host(self, source: HttpSource) -> None:
        """Return if the host may be asked, else ``SourceNotAllowed``."""
        if self.names(source.host, source.port):
            return
        if source.scheme == "http":
            raise WeightsError(
                WeightsCode.SOURCE_NOT_ALLOWED,
                f"This node may not fetch from {source.host}:{source.port} by plain http. Use https, or let the "
                "platform team name the host (ROADSTEAD_HTTP_HOSTS).",
                source.host,
            )
        if is_own_address(source.host):
            raise WeightsError(
                WeightsCode.SOURCE_NOT_ALLOWED,
                f"{source.host} is an address of the node itself or of its link; this node does not fetch from there.",
                source.host,
            )

    def names(self, host: str, port: int) -> bool:
        """Whether the settings name this host, with any port or with this one."""
        written = f"[{host}]" if ":" in host else host
        return written in self.http_hosts or f"{written}:{port}" in self.http_hosts


def is_own_address(host: str) -> bool:
    """Whether ``host`` is an IP address of this machine or its link; names are none."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    return address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast


def parse_source(uri: str) -> Source:
    """A source from its URI; ``SourceNotAllowed`` for anything but the forms above, ``UnsafeFormat`` for pickles."""
    if len(uri) > _URI_LIMIT or not _ALLOWED_CHARACTERS.fullmatch(uri):
        raise _not_allowed(uri, "it holds characters that a URI cannot hold, or is too long")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise _not_allowed(uri, "it is not a URI") from None
    if "#" in uri:
        raise _not_allowed(uri, "it has a fragment")
    _refuse_pickles(parts.path)
    match parts.scheme:
        case "file":
            if parts.netloc not in {"", "localhost"} or parts.query:
                raise _not_allowed(uri, "write file:///absolute/path")
            return FileSource(uri=uri, path=_absolute_path(uri, parts.path))
        case "http" | "https" as scheme:
            if not parts.hostname or "@" in parts.netloc:
                raise _not_allowed(f"{scheme}://…", "it names no host, or carries credentials")
            host = parts.hostname.rstrip(".")
            return HttpSource(uri, scheme, host, _PORTS[scheme] if port is None else port, parts.path or "/")
        case _:
            raise _not_allowed(uri, "sources are file:///path, https://host/path or http://host/path")


def redirected(source: HttpSource, location: str) -> HttpSource:
    """Where a redirect leads; never from https to http, never to a file."""
    target = parse_source(urljoin(source.uri, location))
    if not isinstance(target, HttpSource) or (source.scheme, target.scheme) == ("https", "http"):
        raise _not_allowed(source.label, "it redirects to something less safe")
    return target


def _absolute_path(uri: str, encoded: str) -> PurePosixPath:
    try:
        path = unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        raise _not_allowed(uri, "its path is not UTF-8") from None
    parts = path.split("/")
    if not path.startswith("/") or "\0" in path or any(part in {"", ".", ".."} for part in parts[1:]):
        raise _not_allowed(uri, "its path must be absolute and plain, without .. or empty parts")
    return PurePosixPath(path)


def _refuse_pickles(path: str) -> None:
    if path.lower().endswith(_PICKLES):
        name = path.rsplit("/", 1)[-1]
        raise WeightsError(
            WeightsCode.UNSAFE_FORMAT,
            f"{name} is a PyTorch pickle by its name: loading one can run its author's code. Publish it as GGUF.",
            name,
        )


def _not_allowed(uri: str, why: str) -> WeightsError:
    shown = uri.split("?", 1)[0][:200]
    return WeightsError(WeightsCode.SOURCE_NOT_ALLOWED, f"The source {shown!r} is not allowed: {why}.", "source")
