"""`roadstead measure-quality` as a person runs it: a real API server, the real tool, real weights.

The operator is not there; its part is played by what it keeps (a release) and by the code that reads the annotation.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from roadstead.adapters.kube import parse
from roadstead.adapters.kube.revisions import to_object
from roadstead.domain.model import Model, ModelSpec
from roadstead.domain.plan import QualityOrigin
from roadstead.domain.release import Artifact, Content, Release
from roadstead.planner.quality import best_first, figure
from roadstead_weights.gguf import read_facts
from tests.contract.kube.conftest import local_model
from tests.fixtures.control_plane import RunningControlPlane

pytestmark = pytest.mark.engines
CHUNKS = 4
"""A sixth of what is read by default: enough to tell 8 bits from 4."""


@dataclass(frozen=True, slots=True)
class Served:
    """A LocalModel with a release, and the command."""

    plane: RunningControlPlane
    namespace: str
    program: Path
    scratch: Path
    contents: dict[str, Content]

    @property
    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "roadstead.cli.main", "measure-quality", f"{self.namespace}/ladder", "--json"),
            *("--llama-perplexity", str(self.program), "--scratch", str(self.scratch), "--chunks", str(CHUNKS)),
            *("--threads", "1"),  # two that wait for a busy core take ten times as long
        ]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.plane.kubeconfig)}

    def as_the_operator_sees_it(self) -> Model:
        text = self.plane.kubectl("get", "localmodel", "ladder", "-n", self.namespace, "-o", "json")
        return parse.local_model(json.loads(text), finalizer="roadstead.dev/finalizer").model


@pytest.fixture
def served(
    plane: RunningControlPlane,
    namespace: str,
    perplexity_program: Path,
    precisions: dict[str, Path],
    tmp_path: Path,
) -> Served:
    """Released, with the figures in status that an operator publishes before anything is measured."""
    contents = {kind: _content(kind, path) for kind, path in precisions.items()}
    variants = [{"name": each.variant, "source": each.source} for each in contents.values()]
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(local_model(namespace, "ladder", variants=variants)))
    text = plane.kubectl("get", "localmodel", "ladder", "-n", namespace, "-o", "json")
    model = parse.local_model(json.loads(text), finalizer="").model
    release = Release(number=1, contents=tuple(contents.values()))
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(to_object(model, release)))
    plane.kubectl(
        *("patch", "localmodel", "ladder", "-n", namespace, "--subresource=status", "--type=merge", "-p"),
        json.dumps({"status": _status(release, model.checked_spec)}),
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Served(plane, namespace, perplexity_program, scratch, contents)


def test_eight_bits_are_measured_better_than_four_and_the_planner_goes_by_it(served: Served) -> None:
    done = subprocess.run(
        served.command, env=served.environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr

    told = {row["variant"]: row for row in json.loads(done.stdout)["measured"]}
    assert set(told) == {"q8-0", "q4-0"}
    assert told["q8-0"]["divergence"] < 0.02 < told["q4-0"]["divergence"]
    assert told["q8-0"]["sameTop"] > told["q4-0"]["sameTop"]
    assert {row["tokens"] for row in told.values()} == {CHUNKS * 512}
    model = served.as_the_operator_sees_it()
    assert model.ignored == ()
    for kind, variant in (("Q8_0", "q8-0"), ("Q4_0", "q4-0")):
        found = figure(served.contents[kind], model.checked_spec)
        assert found.origin is QualityOrigin.MEASURED
        assert found.quality == pytest.approx(math.exp(-told[variant]["divergence"] / 2), abs=1e-5)
    assert best_first(served.contents.values(), model.checked_spec)[-1].variant == "q4-0"
    assert list(served.scratch.iterdir()) == []
    assert "bf16: what others are measured against, perplexity" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(", stored")


def test_an_interrupted_measurement_leaves_no_file_no_process_and_no_record(served: Served) -> None:
    with subprocess.Popen(
        served.command, env=served.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not [each for each in served.scratch.glob("*/logits") if each.stat().st_size > 1_000_000]:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Interrupted." in said
    assert list(served.scratch.iterdir()) == []
    assert [pid for pid in psutil.pids() if _mentions(pid, str(served.scratch))] == []
    assert served.as_the_operator_sees_it().checked_spec.measured == ()


def _content(kind: str, path: Path) -> Content:
    with path.open("rb") as file:
        facts = read_facts(file, total=path.stat().st_size, name=path.name)
    return Content(
        variant=kind.lower().replace("_", "-"),
        source=path.as_uri(),
        quality=None,
        artifact=Artifact(
            digest=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}", bytes=path.stat().st_size, facts=facts
        ),
        engine="LlamaCpp",
        engine_image="",
        task="Chat",
        served_name="ladder",
        context_tokens=512,
        concurrency=1,
    )


def _status(release: Release, spec: ModelSpec) -> dict[str, Any]:
    rows = [
        {
            "name": each.variant,
            "quality": round(figure(each, spec).quality, 3),
            "bytes": each.artifact.bytes,
            "chosen": 0,
            "verdict": "NotObserved",
            "message": "",
        }
        for each in release.contents
    ]
    return {"release": {"number": release.number, "digest": release.digest}, "variants": rows}


def _mentions(pid: int, word: str) -> bool:
    try:
        return word in " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False
