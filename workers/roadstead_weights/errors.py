"""What can be wrong with weights, in codes that a user meets in status and in sentences that say what to do.

Knows nothing of HTTP or Kubernetes: the agent's door translates. Messages name the file or host and never a query
string or a credential.
"""

from __future__ import annotations

from enum import StrEnum


class WeightsCode(StrEnum):
    """Reason codes of the product that concern files; stable."""

    UNSAFE_FORMAT = "UnsafeFormat"
    """Loading the format can run code (pickles)."""
    NO_FORMAT_ENGINE = "NoFormatEngine"
    """A sound file that no engine of this version serves."""
    UNSUPPORTED_VERSION = "UnsupportedVersion"
    CORRUPT_HEADER = "CorruptHeader"
    INCOMPLETE_SPLIT = "IncompleteSplit"
    DIGEST_MISMATCH = "DigestMismatch"
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_UNAUTHORIZED = "SourceUnauthorized"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    """May work later: the only code that is worth a retry."""
    INSUFFICIENT_DISK = "InsufficientDisk"


class WeightsError(Exception):
    """Why these weights cannot be had. ``str()`` is a sentence for people."""

    def __init__(self, code: WeightsCode, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        """The file, host or header key it is about."""

    @property
    def retryable(self) -> bool:
        """Whether trying again without anybody changing anything may help."""
        return self.code is WeightsCode.SOURCE_UNAVAILABLE
