"""Reason codes: the stable words by which a person, an alert or a script recognises why something is as it is.

A code is added on the day something can be reported with it, never renamed, and each has an entry (cause, remedy) in
``docs/reference/reasons.md``; a test keeps the two equal.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why. The value is what appears in ``status``, events, metrics and logs."""

    # capability
    NO_FORMAT_ENGINE = "NoFormatEngine"
    UNSUPPORTED_ARCHITECTURE = "UnsupportedArchitecture"
    COMPUTE_CAPABILITY_TOO_LOW = "ComputeCapabilityTooLow"
    DTYPE_UNSUPPORTED = "DtypeUnsupported"
    PLUGIN_MISSING = "PluginMissing"
    VENDOR_UNSUPPORTED = "VendorUnsupported"
    ISA_MISSING = "IsaMissing"

    # room
    INSUFFICIENT_VRAM = "InsufficientVRAM"
    INSUFFICIENT_RAM = "InsufficientRAM"
    INSUFFICIENT_DISK = "InsufficientDisk"
    INSUFFICIENT_CPU = "InsufficientCPU"
    FREE_MEMORY_BELOW_REQUEST = "FreeMemoryBelowRequest"
    MARGINAL_FIT = "MarginalFit"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"

    # shape
    TP_NOT_DIVISIBLE = "TPNotDivisible"
    GROUP_SIZE_NOT_DIVISIBLE = "GroupSizeNotDivisible"
    MIG_NO_TENSOR_PARALLEL = "MigNoTensorParallel"
    SHARED_DEVICE_OVERCOMMIT = "SharedDeviceOvercommit"
    AMBIGUOUS_INVENTORY = "AmbiguousInventory"

    # service level
    QUALITY_BELOW_FLOOR = "QualityBelowFloor"
    SPEED_BELOW_REQUIREMENT = "SpeedBelowRequirement"

    # files
    UNSAFE_FORMAT = "UnsafeFormat"
    CORRUPT_HEADER = "CorruptHeader"
    CORRUPT_WEIGHTS = "CorruptWeights"
    DIGEST_MISMATCH = "DigestMismatch"
    UNSUPPORTED_VERSION = "UnsupportedVersion"
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_UNAUTHORIZED = "SourceUnauthorized"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_AMBIGUOUS = "SourceAmbiguous"

    # placement
    NODE_NOT_READY = "NodeNotReady"
    NODE_NOT_SELECTED = "NodeNotSelected"
    NODE_CORDONED = "NodeCordoned"
    TAINT_NOT_TOLERATED = "TaintNotTolerated"
    ANTI_AFFINITY = "AntiAffinity"
    SKEW_EXCEEDED = "SkewExceeded"
    PREEMPTED_BY_PRIORITY = "PreemptedByPriority"

    # worker images
    IMAGE_OFFERED = "ImageOffered"
    IMAGE_ADOPTED = "ImageAdopted"

    # lifecycle
    INVALID_SPEC = "InvalidSpec"
    NAME_CONFLICT = "NameConflict"
    VALID = "Valid"
    ANNOTATION_IGNORED = "AnnotationIgnored"
    RESOLVING = "Resolving"
    RESOLVED = "Resolved"
    FETCHING = "Fetching"
    STARTING = "Starting"
    SERVING = "Serving"
    SCALED_TO_ZERO = "ScaledToZero"
    CHOSEN = "Chosen"
    OUTRANKED = "Outranked"
    FITS = "Fits"
    ROLLOUT_STEP = "RolloutStep"
    DRAINING = "Draining"
    SETTLED = "Settled"
    ENGINE_START_FAILED = "EngineStartFailed"
    ENGINE_UNAVAILABLE = "EngineUnavailable"
    AGENT_UNAVAILABLE = "AgentUnavailable"
    CELL_UNAVAILABLE = "CellUnavailable"
    GATEWAY_UNAVAILABLE = "GatewayUnavailable"
    LEDGER_UNAVAILABLE = "LedgerUnavailable"
    NOT_OBSERVED = "NotObserved"
    ORPHANED = "Orphaned"

    @classmethod
    def of_agent(cls, code: str) -> Reason:
        """What an agent refused with; it may be newer than this operator and know a code that is not here."""
        return cls(code) if code in frozenset(cls) else cls.SOURCE_UNAVAILABLE
