"""Two thousand models on a thousand nodes: what they cost at rest, at a start and when one of them changes.

The tests build on one another and run in this order. Everything but the doors' insides is real.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.soak.large_fleet import NAMESPACE, LargeFleet, without_leases

pytestmark = pytest.mark.soak

REST_SECONDS: Final = float(os.environ.get("ROADSTEAD_SOAK_REST_SECONDS", "600"))
CHURN_SECONDS: Final = float(os.environ.get("ROADSTEAD_SOAK_CHURN_SECONDS", "1800"))
QUIET_SECONDS: Final = 40.0
"""So long without a write: by then refused sources were asked for again, and words that were put off were told."""
CHANGES: Final = 40
CHURNED: Final = 200
"""Models that are changed again and again: each soon has had more releases than are kept."""
MIB: Final = 1 << 20


def say(line: str) -> None:
    print(f"\n  {line}", flush=True)  # noqa: T201 - figures are what a soak is run for


def test_a_new_fleet_settles_with_few_calls_for_each_object(fleet: LargeFleet) -> None:
    began = time.monotonic()
    fleet.start()
    calls = without_leases(fleet.until_quiet(seconds=QUIET_SECONDS))
    listed = fleet.get("localmodels")["items"]
    models = len(listed)
    status = calls.pop(("patch", "localmodels/status"), 0)
    grown = calls.pop(("patch", "modelroutes"), 0)
    each = sum(calls.values()) / models
    say(
        f"{models} models settled after {time.monotonic() - began - QUIET_SECONDS:.0f} s with "
        f"{fleet.used().cpu_seconds:.0f} s of CPU: {each:.2f} calls each, {grown / models:.2f} for nodes that answered "
        f"after a model's first, {status / models:.2f} statuses"
    )
    said = Counter(model["status"]["printed"]["status"] for model in listed)
    say(", ".join(f"{count} {word}" for word, count in said.most_common()))
    assert said["Ready"] >= 0.89 * models
    assert each <= 3, dict(calls)
    further = sum(max(0, len(model["status"].get("slots", ())) - 1) for model in listed)
    assert grown <= further, "a route is written once for each node that begins to answer"


def test_at_rest_nothing_is_written_and_little_is_done(fleet: LargeFleet) -> None:
    before = fleet.used()
    time.sleep(REST_SECONDS)
    after = fleet.used()
    share = (after.cpu_seconds - before.cpu_seconds) / REST_SECONDS
    say(f"{REST_SECONDS:.0f} s at rest: {100 * share:.2f} % of a core, {after.resident_bytes / MIB:.0f} MiB resident")
    assert without_leases(fleet.calls()) == {}
    assert share <= 0.03
    assert after.resident_bytes <= 400 * MIB


def test_an_operator_that_starts_writes_nothing_when_nothing_changed(fleet: LargeFleet) -> None:
    fleet.stop()
    began = time.monotonic()
    fleet.start()
    assert without_leases(fleet.until_quiet(seconds=QUIET_SECONDS)) == {}
    say(f"started without a write; {fleet.used().cpu_seconds:.1f} s of CPU in {time.monotonic() - began:.0f} s")


def test_a_change_is_planned_and_written_within_a_second(fleet: LargeFleet) -> None:
    names = [model["metadata"]["name"] for model in fleet.get("localmodels")["items"]][1 : 7 * CHANGES : 7]
    with watched(fleet) as told:
        took = sorted(change(fleet, name, tokens=1024 + number, told=told) for number, name in enumerate(names))
    slow = took[int(0.95 * len(took)) - 1]
    say(f"changed to planned and written: median {statistics.median(took):.2f} s, p95 {slow:.2f} s, {took[-1]:.2f} s")
    assert slow <= 1.0


def test_half_an_hour_of_changes_leaves_memory_as_it_was(fleet: LargeFleet) -> None:
    names = [model["metadata"]["name"] for model in fleet.get("localmodels")["items"]]
    samples: list[tuple[float, float]] = []
    began = time.monotonic()
    number = 0
    while (at := time.monotonic() - began) < CHURN_SECONDS:
        spec = {"requirements": {"contextTokens": 512 + number % 7 * 256}, "replicas": 1 + number % 2}
        fleet.run(
            "patch",
            "lm",
            names[number * 13 % min(CHURNED, len(names))],
            "-n",
            NAMESPACE,
            "--type=merge",
            "-p",
            json.dumps({"spec": spec}),
        )
        number += 1
        samples.append((at, fleet.used().resident_bytes / MIB))
        time.sleep(0.5)
    later = [sample for sample in samples if sample[0] > CHURN_SECONDS / 3]
    slope = statistics.linear_regression(*zip(*later, strict=True)).slope * 3600
    say(f"{number} changes: {samples[0][1]:.0f} MiB at first, {samples[-1][1]:.0f} at last, {slope:+.0f} MiB an hour")
    assert slope * CHURN_SECONDS / 3600 <= 0.05 * samples[-1][1], "it grows"
    assert samples[-1][1] <= 500


@contextmanager
def watched(fleet: LargeFleet) -> Iterator[Iterator[Any]]:
    """LocalModels as the API server tells of them, one state after the other."""
    command = [*fleet.kubectl, "get", "lm", "-n", NAMESPACE, "--watch-only", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            yield objects(watching.stdout)
        finally:
            watching.kill()


def objects(lines: Iterator[str] | Any) -> Iterator[Any]:  # noqa: ANN401
    """Objects that are printed one after the other, each over several lines."""
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            yield json.loads(text)
            text = ""


def change(fleet: LargeFleet, name: str, *, tokens: int, told: Iterator[Any]) -> float:
    """Seconds from the API server's answer to a changed spec until a status is of it."""
    patch = json.dumps({"spec": {"requirements": {"contextTokens": tokens}}})
    answer = json.loads(fleet.run("patch", "lm", name, "-n", NAMESPACE, "--type=merge", "-p", patch, "-o", "json"))
    began = time.monotonic()
    for model in told:
        if model["metadata"]["name"] == name:
            generation = model.get("status", {}).get("observedGeneration", 0)
            if generation >= answer["metadata"]["generation"]:
                return time.monotonic() - began
    raise AssertionError("the watch ended")
