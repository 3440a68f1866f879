"""What can go wrong before a cluster runs: a code, a sentence, a remedy."""

from __future__ import annotations

from roadstead.embedded.failures import EmbeddedFleetError


class ClusterError(EmbeddedFleetError):
    """A step of `cluster-up` or `cluster-down` could not be done."""
