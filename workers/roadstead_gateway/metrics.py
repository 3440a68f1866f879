"""The gateway's numbers for Prometheus, read from the same counters as the tallies when somebody scrapes.

So the way of a request pays for plain additions only, and labels are bounded by what the operator has routed: model,
variant and node come from ModelRoutes, codes are statuses and words of ours. Nothing a client sends becomes a label.
The series of a slot end with the slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from roadstead_gateway.tallies import FIRST_TOKEN_BUCKETS_SECONDS, CounterBook, SlotCounters

_SLOT: Final = ("model", "variant", "node")
_BOUNDS: Final = (*(str(bound) for bound in FIRST_TOKEN_BUCKETS_SECONDS), "+Inf")


class GatewayCollector(Collector):
    """Turns the counters into metrics; holds none of its own."""

    def __init__(self, book: CounterBook, *, synced: Callable[[], bool], watch_age: Callable[[], float | None]) -> None:
        self._book = book
        self._synced = synced
        self._watch_age = watch_age

    def collect(self) -> Iterator[Metric]:
        slots = self._by_labels()
        yield self._requests(slots)
        yield self._sum("roadstead_gateway_errors", "Attempts that failed by the replica's fault.", slots, "errors")
        yield self._sum("roadstead_gateway_tokens", "Tokens answered.", slots, "tokens")
        yield self._in_flight(slots)
        yield self._first_token(slots)
        refused = CounterMetricFamily("roadstead_gateway_refused", "Requests answered with an error.", labels=["code"])
        for code, count in sorted(self._book.refusals.items()):
            refused.add_metric([code], count)
        yield refused
        yield GaugeMetricFamily("roadstead_gateway_synced", "1 while the routes are watched.", value=self._synced())
        age = self._watch_age()
        if age is not None:
            yield GaugeMetricFamily(
                "roadstead_gateway_watch_age_seconds", "Since the API server was last heard.", value=age
            )

    def _by_labels(self) -> dict[tuple[str, str, str], list[SlotCounters]]:
        """Slots that look alike from outside (another context size, say) are summed: a series must not come twice."""
        found: dict[tuple[str, str, str], list[SlotCounters]] = {}
        for slot in self._book.slots():
            found.setdefault((slot.model, slot.variant, slot.node), []).append(slot)
        return found

    @staticmethod
    def _requests(slots: dict[tuple[str, str, str], list[SlotCounters]]) -> Metric:
        family = CounterMetricFamily(
            "roadstead_gateway_requests", "Attempts ended, by status or kind of failure.", labels=[*_SLOT, "code"]
        )
        for labels, alike in slots.items():
            codes: dict[str, int] = {}
            for slot in alike:
                for code, count in slot.codes.items():
                    codes[code] = codes.get(code, 0) + count
            for code, count in sorted(codes.items()):
                family.add_metric([*labels, code], count)
        return family

    @staticmethod
    def _sum(name: str, words: str, slots: dict[tuple[str, str, str], list[SlotCounters]], field: str) -> Metric:
        family = CounterMetricFamily(name, words, labels=_SLOT)
        for labels, alike in slots.items():
            family.add_metric(labels, sum(getattr(slot, field) for slot in alike))
        return family

    @staticmethod
    def _in_flight(slots: dict[tuple[str, str, str], list[SlotCounters]]) -> Metric:
        family = GaugeMetricFamily("roadstead_gateway_in_flight", "Requests under way.", labels=_SLOT)
        for labels, alike in slots.items():
            family.add_metric(labels, sum(slot.in_flight for slot in alike))
        return family

    @staticmethod
    def _first_token(slots: dict[tuple[str, str, str], list[SlotCounters]]) -> Metric:
        family = HistogramMetricFamily(
            "roadstead_gateway_first_token_seconds", "From request to a stream's first event.", labels=_SLOT
        )
        for labels, alike in slots.items():
            counts = [sum(column) for column in zip(*(slot.first_token_buckets for slot in alike), strict=True)]
            buckets = list(zip(_BOUNDS, accumulate(counts), strict=True))
            family.add_metric(labels, buckets, sum_value=sum(slot.first_token_seconds for slot in alike))
        return family


def exposition(collector: GatewayCollector) -> Callable[[], bytes]:
    """What ``/metrics`` answers with: the gateway's numbers and the process's own."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)
