"""How this process speaks to the API server. The runtime fills these from its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeSettings:
    """The API server's address, our names in it, and how patient we are."""

    kubeconfig: Path | None = None
    """None: ``KUBECONFIG`` if it is set, else the service account of the pod."""

    namespace: str = "roadstead"
    """The product's own namespace: ModelRoutes, the Lease and our Pods. It must exist."""

    watch_namespaces: tuple[str, ...] = ()
    """Where LocalModels are looked after; none: everywhere, which needs a ClusterRole."""

    gateway_url: str = "http://roadstead-gateway.roadstead/v1"
    """What ``status.url`` tells clients."""

    field_manager: str = "roadstead"
    """Owner of the fields we write; changing it leaves the old owner's fields behind."""

    finalizer: str = "roadstead.dev/finalizer"
    """Keeps a LocalModel until all it had is gone."""

    request_timeout_seconds: float = 15.0
    """One request, from connecting to the last byte. Longer keeps a turn waiting behind a dead API server."""

    relist_seconds: float = 600.0
    """How often each kind is listed anew, the measure against events that never came."""

    silence_seconds: float = 75.0
    """A watch without a byte for so long is dead. The API server sends a bookmark about every 60 s."""

    retry_seconds: tuple[float, float] = (0.2, 10.0)
    """First and longest wait after a failed list or watch; doubled in between, with jitter. The longest is added to the
    Lease's 15 s when an API server comes back, and a fleet is to be steered again within a minute of that."""
