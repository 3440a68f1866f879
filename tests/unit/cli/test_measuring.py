"""`roadstead measure-quality`: what it reads of llama.cpp's words, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from roadstead.adapters.kube.revisions import to_object
from roadstead.cli.failures import CommandError
from roadstead.cli.kube import KubeApi, KubeRefused
from roadstead.cli.measuring import output, running
from roadstead.cli.measuring.measure import Asked, Outcome, measure
from roadstead.cli.measuring.output import Chunks
from roadstead.cli.measuring.program import find_program
from roadstead.cli.measuring.report import as_json
from roadstead.domain.model import Model, ModelKey
from roadstead.domain.quality import ANNOTATION, RecordsUnreadable, from_text
from roadstead.domain.release import Artifact, Content, Release
from roadstead.embedded.progress import Progress
from tests.fixtures.memory_fleet import START, artifact

SAID = Path(__file__).resolve().parents[2] / "fixtures/llama_perplexity"
BASE, AGAINST, TOO_SHORT = ((SAID / name).read_text() for name in ("base.txt", "against.txt", "too-short.txt"))

SCRIPT = f"""#!/usr/bin/env bash
case $* in *--version*) echo 'version: 0.6.0-dev (build 11434, commit b11434)' >&2; exit;; esac
while [ $# -gt 0 ]; do
  case $1 in -m) model=$2;; -f) text=$2;; --kl-divergence-base) logits=$2;; --kl-divergence) against=1;; esac
  shift
done
case $(cat "$model") in
  hangs) echo loading; echo "$logits" > "${{model%/*}}/hanging"; exec -a "$0 hangs" sleep 600;;
  changes) echo again >> "$model";;
  fails) echo '0.00.1 E load: failed to allocate buffer for kv cache' >&2; exit 1;;
esac
if [ "$against" ]; then
  [ "$(cat "$logits")" = judged ] && cat '{SAID}/against.txt'
else
  grep -q 'Apache License' "$text" && echo judged > "$logits" && cat '{SAID}/base.txt'
fi
"""
"""Answers as the real one did, by what is in the model's file."""


# --- its words --------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_that_the_tool_prints_at_its_end() -> None:
    found = output.statistics(AGAINST)

    assert found is not None
    assert (found.divergence, found.perplexity) == (0.340062, 90.157040)
    assert found.same_top == pytest.approx(0.63529)
    assert output.final_perplexity(BASE) == 69.8870


@pytest.mark.parametrize(
    "said",
    [
        "",
        AGAINST.partition("====== KL")[0],
        AGAINST.partition("Same top p:")[0],
        AGAINST.replace("Mean    KLD:   0.340062", "Mean    KLD:        nan"),
        "0.1 E kl_divergence: inconsistent vocabulary (49152 vs 32000)\n" + AGAINST,
    ],
)
def test_a_run_that_came_to_no_figure_has_none_although_the_tool_exits_with_0(said: str) -> None:
    assert output.statistics(said) is None


def test_identical_weights_have_no_negative_divergence() -> None:
    found = output.statistics(AGAINST.replace("Mean    KLD:   0.340062", "Mean    KLD:  -0.000001"))

    assert found is not None
    assert found.divergence == 0


@pytest.mark.parametrize("said", [BASE, AGAINST])
def test_chunks_are_counted_as_they_are_printed(said: str) -> None:
    seen = [output.chunks(said[:end]) for end in range(len(said))]
    known = [Chunks(0, 0)]
    for end in range(0, len(said), 7):
        known.append(output.chunks(said[max(0, end - 512) : end] if known[-1].total else said[:end], known[-1]))

    assert list(dict.fromkeys(seen)) == [Chunks(0, 0), *(Chunks(done, 4) for done in range(5))]
    assert list(dict.fromkeys(known)) == list(dict.fromkeys(seen))


def test_a_complaint_is_the_first_error_of_its_log() -> None:
    assert output.complaint(TOO_SHORT).startswith("you need at least 1024 tokens")
    assert output.complaint("error: invalid argument: --nope\n") == "invalid argument: --nope"
    assert output.complaint("loading\nKilled\n") == "Killed"


def test_the_file_between_the_runs_is_as_large_as_was_computed() -> None:
    """As the real tool wrote it, of a vocabulary of 49,152."""
    assert running.logits_bytes(vocabulary_size=49_152, chunks=4) == 100_286_452


# --- a model ----------------------------------------------------------------------------------------------------------


@dataclass
class Cluster:
    """An API server that knows one LocalModel and its releases."""

    model: dict[str, Any]
    revisions: list[dict[str, Any]]
    conflicts: int = 0
    """How many patches are refused because somebody wrote meanwhile."""
    patches: list[dict[str, Any]] = field(default_factory=list)

    def get(self, path: str, **_: str) -> dict[str, Any]:
        if path.endswith("/controllerrevisions"):
            return {"items": self.revisions}
        if not path.endswith("/localmodels/assistant"):
            raise KubeRefused(404, "NotFound", "there is none", about=path)
        return json.loads(json.dumps(self.model))  # type: ignore[no-any-return]

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        metadata = self.model["metadata"]
        if self.conflicts:
            self.conflicts -= 1
            metadata["resourceVersion"] += "1"
            raise KubeRefused(409, "Conflict", "it was changed", about=path)
        assert patch["metadata"]["resourceVersion"] == metadata["resourceVersion"]
        metadata.setdefault("annotations", {}).update(patch["metadata"]["annotations"])
        self.patches.append(patch)
        return self.model

    @property
    def records(self) -> dict[str, Any]:
        return dict(json.loads(self.model["metadata"].get("annotations", {}).get(ANNOTATION, "{}")))


@dataclass
class Bench:
    """A LocalModel with files of its variants on this machine, and a tool."""

    folder: Path
    cluster: Cluster
    tool: Path

    def run(self, **asked: Any) -> Outcome:  # noqa: ANN401 - fields of Asked
        given: dict[str, Any] = {"chunks": 24, "threads": 1, "silence_seconds": 60.0, "program": self.tool} | asked
        kube = cast("KubeApi", self.cluster)
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        try:
            return measure(kube, Asked(namespace="team", name="assistant", scratch=scratch, **given), Progress())
        finally:
            assert list(scratch.iterdir()) == []

    def refused(self, code: str, **asked: Any) -> CommandError:  # noqa: ANN401 - likewise
        with pytest.raises(CommandError) as caught:
            self.run(**asked)
        assert caught.value.code == code, caught.value
        return caught.value

    def digest(self, name: str) -> str:
        return sha256(self.folder / f"{name}.gguf")


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def content(name: str, path: Path, *, source: str = "", **facts: object) -> Content:
    found = artifact(name, mebibytes={"bf16": 200, "q8": 100}.get(name, 50))
    return Content(
        variant=name,
        source=source or path.as_uri(),
        quality=None,
        artifact=Artifact(digest=sha256(path), bytes=found.bytes, facts=replaced(found.facts, facts)),
        engine="LlamaCpp",
        engine_image="",
        task="Chat",
        served_name="assistant",
        context_tokens=512,
        concurrency=1,
    )


def replaced(facts: Any, changes: dict[str, object]) -> Any:  # noqa: ANN401 - any fields
    from dataclasses import replace

    return replace(facts, **changes)


Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A bench; ``words`` are what files hold, ``contents`` replace what is made of them."""

    def make(words: dict[str, str] | None = None, **changes: dict[str, Any]) -> Bench:
        for name in ("bf16", "q8", "q4"):
            (tmp_path / f"{name}.gguf").write_text((words or {}).get(name, name))
        contents = tuple(
            content(name, tmp_path / f"{name}.gguf", **changes.get(name, {})) for name in ("q4", "bf16", "q8")
        )
        release = Release(number=2, contents=contents)
        model = Model(
            key=ModelKey("team", "assistant"), uid="u1", resource_version="1", generation=1, created=START, spec=None
        )
        revision = to_object(model, release)
        rows = [{"name": name, "quality": quality} for name, quality in (("bf16", 1.0), ("q8", 0.998), ("q4", 0.9))]
        kept = {
            "metadata": {"name": "assistant", "namespace": "team", "uid": "u1", "resourceVersion": "1"},
            "status": {"release": {"number": 2}, "variants": rows},
        }
        tool = tmp_path / "llama-perplexity"
        tool.write_text(SCRIPT)
        tool.chmod(0o755)
        return Bench(tmp_path, Cluster(kept, [revision]), tool)

    return make


def test_each_variant_is_measured_against_the_largest_and_has_a_record_of_its_file(make: Make) -> None:
    bench = make()

    outcome = bench.run()

    assert outcome.base.variant == "bf16"
    assert [rung.variant for rung, _ in outcome.measured] == ["q8", "q4"]
    assert set(bench.cluster.records) == {bench.digest("q8"), bench.digest("q4")}
    record = bench.cluster.records[bench.digest("q4")]
    assert record["quality"] == pytest.approx(0.84364, abs=1e-5)  # exp(-0.340062 / 2)
    assert (record["divergence"], record["sameTop"], record["perplexity"]) == (0.340062, 0.63529, 90.157)
    assert (record["base"], record["baseQuality"]) == (bench.digest("bf16"), 1.0)
    assert (record["tool"], record["toolVersion"], record["tokens"]) == ("llama-perplexity", "b11434", 4 * 512)
    assert record["corpus"].startswith("sha256:")


def test_a_record_is_read_as_it_was_written(make: Make) -> None:
    bench = make()

    outcome = bench.run()

    kept = {each.artifact: each for each in from_text(bench.cluster.model["metadata"]["annotations"][ANNOTATION])}
    told = {each["variant"]: each for each in json.loads(as_json(outcome))["measured"]}
    for rung, record in outcome.measured:
        read = kept[rung.digest]
        assert (read.divergence, read.same_top, read.base, read.corpus, read.tokens, read.tool_version) == (
            record.divergence, record.same_top, record.base, record.corpus, record.tokens, record.tool_version,
        )  # fmt: skip
        assert read.quality == pytest.approx(record.quality, abs=1e-6)
        assert abs((read.measured - record.measured).total_seconds()) < 1
        assert told[rung.variant]["quality"] == read.quality


def test_what_was_measured_is_stored_although_a_later_variant_fails(make: Make) -> None:
    bench = make({"q4": "fails"})

    error = bench.refused("ToolFailed")

    assert "failed to allocate buffer for kv cache" in error.sentence
    assert set(bench.cluster.records) == {bench.digest("q8")}


def test_records_of_kept_files_stay_and_others_are_forgotten(make: Make) -> None:
    bench = make()
    bench.run()
    records = bench.cluster.records
    gone = "sha256:" + "f" * 64
    stale = {gone: records[bench.digest("q8")], **records}
    bench.cluster.model["metadata"]["annotations"][ANNOTATION] = json.dumps(stale)

    bench.run(variants=("q4",))

    assert set(bench.cluster.records) == {bench.digest("q8"), bench.digest("q4")}
    assert bench.cluster.records[bench.digest("q8")] == records[bench.digest("q8")]


def test_records_that_cannot_be_read_are_replaced(make: Make) -> None:
    bench = make()
    bench.cluster.model["metadata"]["annotations"] = {ANNOTATION: "{", "other": "stays"}

    bench.run()

    assert len(bench.cluster.records) == 2
    assert bench.cluster.model["metadata"]["annotations"]["other"] == "stays"


def test_who_writes_meanwhile_is_not_overwritten_and_not_waited_for_for_ever(make: Make) -> None:
    bench = make()
    bench.cluster.conflicts = 2
    bench.run()
    assert len(bench.cluster.records) == 2

    bench.cluster.conflicts = 1000
    bench.refused("KeepsChanging")


def test_against_a_base_that_is_quantized_itself_the_loss_of_the_base_counts_too(make: Make) -> None:
    bench = make()
    bench.cluster.model["status"]["variants"][0]["quality"] = 0.99

    outcome = bench.run()

    assert outcome.measured[0][1].quality == pytest.approx(0.99 * 0.84364, abs=1e-5)


# --- what it refuses --------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_what_is_served_is_refused_before_anything_runs(make: Make) -> None:
    bench = make()
    (bench.folder / "q4.gguf").write_text("another file of the same name")

    error = bench.refused("DigestDiffers")

    assert "q4.gguf is not what is served as q4" in error.sentence
    assert "--file q4=PATH" in error.remedy
    assert bench.cluster.patches == []


def test_a_file_that_is_written_to_meanwhile_gets_no_record(make: Make) -> None:
    bench = make({"q4": "changes"})

    assert "was changed while it was measured" in bench.refused("DigestDiffers").sentence
    assert set(bench.cluster.records) == {bench.digest("q8")}


def test_a_source_on_the_web_is_not_fetched_and_a_file_of_ones_own_is_taken_for_it(make: Make) -> None:
    bench = make(q8={"source": "https://models.example/q8.gguf"})

    error = bench.refused("FileMissing")
    assert "q8 comes from https://models.example/q8.gguf" in error.sentence
    assert error.remedy == "Download it, and name the file: --file q8=PATH."

    bench.run(named_files={"q8": bench.folder / "q8.gguf"})
    assert bench.digest("q8") in bench.cluster.records


def test_a_file_that_is_on_another_machine_is_named(make: Make) -> None:
    bench = make()
    (bench.folder / "bf16.gguf").unlink()

    assert "there is no file" in bench.refused("FileMissing").sentence


def test_another_vocabulary_is_refused_because_the_tool_would_compare_it_all_the_same(make: Make) -> None:
    bench = make(q4={"vocabulary_size": 32_000})

    assert "their size of the vocabulary is 32000 and" in bench.refused("NotTheSameModel").sentence
    bench.run(variants=("q8",))


@pytest.mark.parametrize("asked", [{"variants": ("q5",)}, {"named_files": {"q5": Path("x")}}])
def test_a_variant_that_is_not_there_is_refused(asked: dict[str, Any], make: Make) -> None:
    assert "q5" in make().refused("NoSuchVariant", **asked).sentence


def test_without_a_release_or_a_second_variant_there_is_nothing_to_do(make: Make) -> None:
    bench = make()
    bench.refused("NothingToMeasure", variants=("bf16",))

    bench.cluster.model["status"] = {}
    bench.refused("NoRelease")


def test_without_room_for_what_is_between_the_runs_nothing_runs(make: Make) -> None:
    bench = make(bf16={"vocabulary_size": 10**12}, q8={"vocabulary_size": 10**12}, q4={"vocabulary_size": 10**12})

    assert "--scratch FOLDER" in bench.refused("InsufficientDisk").remedy


def test_a_text_that_cannot_be_read_is_refused(make: Make, tmp_path: Path) -> None:
    bench = make()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")

    assert "not UTF-8" in bench.refused("CorpusUnreadable", corpus=tmp_path / "binary").sentence
    assert "No such file" in bench.refused("CorpusUnreadable", corpus=tmp_path / "nowhere").sentence


def test_a_tool_that_is_silent_for_too_long_is_ended_and_leaves_nothing(make: Make) -> None:
    bench = make({"q8": "hangs"})

    bench.refused("ToolSilent", silence_seconds=0.5)

    assert bench.cluster.records == {}


def test_a_program_that_is_not_there_or_is_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADSTEAD_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for named, words in ((None, "on PATH"), (tmp_path / "nowhere", "No such file"), (Path("/bin/true"), "no version")):
        with pytest.raises(CommandError, match=words) as caught:
            find_program(named)
        assert caught.value.code == "ToolMissing"
        assert "make llama-perplexity" in caught.value.remedy


def test_the_program_that_was_built_last_is_found(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make()
    monkeypatch.setenv("ROADSTEAD_CACHE", str(bench.folder / "cache"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for number, build in enumerate(("b1-x", "b2-y", "b0-z")):
        place = bench.folder / "cache/llama-perplexity" / build
        place.mkdir(parents=True)
        (place / "llama-perplexity").write_text(SCRIPT.replace("11434", build[1]))
        (place / "llama-perplexity").chmod(0o755)
        os.utime(place, (number, number))

    assert find_program(None).version == "b0"


def test_an_end_from_outside_leaves_neither_a_process_nor_a_file(make: Make) -> None:
    bench = make({"bf16": "hangs"})
    program = (
        "import pathlib, sys, tests.unit.cli.test_measuring as t\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "cluster = t.Cluster(*t.json.loads((folder / 'cluster').read_text()))\n"
        "t.Bench(folder, cluster, folder / 'llama-perplexity').run()\n"
    )
    (bench.folder / "cluster").write_text(json.dumps([bench.cluster.model, bench.cluster.revisions]))
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", program, str(bench.folder)]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as process:
        mark, deadline = bench.folder / "hanging", time.monotonic() + 30
        while not mark.exists() or not mark.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)

    assert "KeyboardInterrupt" in said
    assert not Path(mark.read_text()).parent.exists()
    assert [pid for pid in psutil.pids() if mentions(pid, str(bench.tool))] == []


def mentions(pid: int, word: str) -> bool:
    try:
        return word in " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


# --- the annotation ---------------------------------------------------------------------------------------------------

GOOD = {
    "quality": 0.99, "divergence": 0.02, "sameTop": 0.9, "perplexity": 14.0, "base": "sha256:" + "a" * 64,
    "baseQuality": 1, "tool": "llama-perplexity", "toolVersion": "b11434", "corpus": "sha256:" + "b" * 64,
    "tokens": 12288, "measuredAt": "2026-11-30T17:40:00Z",
}  # fmt: skip
DIGEST = "sha256:" + "c" * 64


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    (record,) = from_text(json.dumps({DIGEST: GOOD | {"kernel": "AMX"}}))

    assert (record.artifact, record.quality, record.tokens) == (DIGEST, 0.99, 12288)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[" * 20_000, "not JSON"),
        ("x" * 40_000, "may have 32768"),
        ("[]", "not a JSON object"),
        ('{"q4": {}}', "is no digest"),
        (json.dumps({DIGEST: 1}), "is not an object"),
        (json.dumps({f"sha256:{number:064}": {} for number in range(65)}), "may have 64"),
        *(
            (json.dumps({DIGEST: GOOD | {name: value}}), f"{name} of sha256:cccccccccccc is not")
            for name, value in (
                ("quality", 1.1), ("quality", -1), ("quality", float("nan")), ("quality", True), ("quality", "1"),
                ("quality", None), ("divergence", 10**400), ("sameTop", []), ("base", "sha256:AA"), ("tool", "a b"),
                ("measuredAt", "yesterday"), ("measuredAt", "2026-11-30"), ("measuredAt", "0001-01-01T00:00:00+14:00"),
            )
        ),
    ],
)  # fmt: skip
def test_what_is_not_a_record_is_told_and_never_believed(text: str, words: str) -> None:
    with pytest.raises(RecordsUnreadable, match=words):
        from_text(text)


def test_no_annotation_is_no_record() -> None:
    assert from_text(None) == ()
