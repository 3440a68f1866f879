"""Prometheus metrics of the operator. Label values are codes and kinds, never names that users choose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class OperatorMetrics:
    """The operator's own registry, so that tests start from nothing."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.turns = Counter("roadstead_turns", "Turns of the loop.", ["result"], registry=self.registry)
        self.turn_seconds = Histogram(
            "roadstead_turn_seconds", "Duration of a turn, from snapshot to status.", registry=self.registry
        )
        self.actions = Counter(
            "roadstead_actions",
            "Actions carried out, by kind and result.",
            ["action", "result"],
            registry=self.registry,
        )
        self.models = Gauge("roadstead_models", "LocalModels in the last snapshot.", registry=self.registry)
        self.assignment_gap = Gauge(
            "roadstead_assignment_gap_ratio",
            "When models last wanted the same room: share of the bound on their worth together that was not reached.",
            registry=self.registry,
        )
        self.leading = Gauge("roadstead_leading", "1 while this process leads.", registry=self.registry)
        self.epoch = Gauge("roadstead_epoch", "Epoch this process leads with.", registry=self.registry)

    def count_action(self, action: str, result: str) -> None:
        """One action was carried out."""
        self.actions.labels(action, result).inc()
