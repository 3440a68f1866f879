"""`roadstead explain`, `fit` and `what-if --apply`, from the command line to a read API and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from roadstead.cli.failures import CommandError
from roadstead.cli.main import app
from roadstead.cli.manifests import local_models, question_of_fit
from tests.fixtures.gguf_files import Gguf, llama_keys, u32, u32s
from tests.fixtures.memory_fleet import MIB, MemoryNode
from tests.fixtures.read_api import FILES, SECRET, VARIANTS, read_api_in_a_thread, two_nodes

SHORT = "needs 616.6 MiB, the node has 400.0 MiB: 227150624 bytes short"
MODEL = """
apiVersion: roadstead.dev/v1alpha1
kind: LocalModel
metadata:
  name: second
spec:
  variants:
    - name: q4
      source: file:///models/small.gguf
  requirements:
    contextTokens: 2048
"""


@pytest.fixture(scope="module")
def fleet_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    fleet = two_nodes()
    fleet.nodes["node-c"] = MemoryNode(budget=400 * MIB, files=dict(FILES))
    fleet.nodes["node-d"] = MemoryNode(budget=400 * MIB, files=dict(FILES))
    fleet.apply("assistant", *VARIANTS, replicas=2)
    asyncio.run(fleet.settle())
    folder = tmp_path_factory.mktemp("api")
    with read_api_in_a_thread(folder, fleet=fleet) as url:
        yield {
            "ROADSTEAD_API": url,
            "ROADSTEAD_API_TOKEN_FILE": str(folder / "api.token"),
            "ROADSTEAD_HOME": str(folder / "home"),
            "COLUMNS": "120",
        }


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "second.yaml"
    path.write_text(MODEL)
    return path


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(Gguf().bytes())
    return path


def run(environment: dict[str, str], *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), env=environment, input=stdin)


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.rstrip() for line in result.output.splitlines()]


def test_explain_shows_each_variant_on_each_kind_of_node_and_what_was_passed_over(
    fleet_environment: dict[str, str],
) -> None:
    shown = lines(run(fleet_environment, "explain", "assistant"))

    assert shown[:4] == [
        "team/assistant  2 of 2 replicas have a place",
        "  VARIANT  SIZE       QUALITY",
        "  bf16     500.0 MiB  1 usual",
        "  q4       100.0 MiB  0.914 usual",
    ]
    assert shown[5:11] == [
        "  VARIANT  ON                    VERDICT          WHY",
        "  bf16     node-a                Chosen           a replica needs 616.6 MiB of 2.0 GiB",
        f"  bf16     node-b and 2 like it  InsufficientRAM  {SHORT}",
        "  q4       node-b                Chosen           a replica needs 216.6 MiB of 400.0 MiB",
        "  q4       node-a                Outranked        bf16 is better and fits",
        "  q4       node-c and 1 like it  Fits             needs 216.6 MiB, 400.0 MiB are free",
    ]
    assert "1 × q4 on node-b, worth 1.916 (served 1 + quality 0.914 + weights 0.002), rather than" in shown
    assert shown[-1].startswith("Planned ")


@pytest.mark.parametrize("width", ["80", "120"])
@pytest.mark.parametrize("command", [("explain", "assistant"), ("fit", "file:///models/small.gguf")])
def test_tables_fit_the_terminal_and_lose_no_word(
    command: tuple[str, ...], width: str, fleet_environment: dict[str, str]
) -> None:
    shown = run({**fleet_environment, "COLUMNS": width}, *command)

    assert max(map(len, shown.output.splitlines())) <= int(width)
    assert "InsufficientRAM" in shown.output
    assert "bytes short" in " ".join(shown.output.split())


def test_a_local_model_is_fitted_before_it_is_applied(manifest: Path, fleet_environment: dict[str, str]) -> None:
    shown = lines(run(fleet_environment, "fit", str(manifest)))

    assert shown[0] == "Would have a place now: 1 × q4 on node-a"
    assert not any("rather than" in line for line in shown)


def test_a_file_of_this_machine_is_fitted_by_its_header(gguf: Path, fleet_environment: dict[str, str]) -> None:
    shown = run(fleet_environment, "fit", str(gguf), "--context", "128", "--concurrency", "2", "--json")

    told = json.loads(shown.output)
    assert (told["placed"], told["model"]["variants"][0]["bytes"]) == (True, gguf.stat().st_size)


def test_what_has_no_place_says_so_first(fleet_environment: dict[str, str]) -> None:
    shown = lines(run(fleet_environment, "fit", VARIANTS[0].source, "--context", "1000000", "--cache-type", "q8_0"))

    assert shown[0] == "Would have no place now"
    assert SECRET not in "".join(shown)


def test_what_if_shows_the_places_of_a_model_that_would_be_applied(
    manifest: Path, fleet_environment: dict[str, str]
) -> None:
    shown = lines(run(fleet_environment, "what-if", "-f", str(manifest), "--drain", "node-a"))

    assert [line.split("  ")[0] for line in shown[1:3]] == ["default", "team"]
    assert "1 × q4 on node-" in shown[1]


def test_a_model_comes_from_standard_input_as_well(fleet_environment: dict[str, str]) -> None:
    shown = run(fleet_environment, "what-if", "--apply", "-", "--json", stdin=MODEL)

    (model,) = json.loads(shown.output)["models"]
    assert (model["namespace"], model["name"], model["pendingThen"]) == ("default", "second", 0)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("explain", "nobody"), "ModelNotFound: There is no LocalModel default/nobody."),
        (("fit", "nothing.gguf"), "FileUnusable: nothing.gguf cannot be read: No such file or directory."),
        (("fit", f"https://models.example/none.gguf?{SECRET}"), "SourceNotFound: file: https://models.example/none"),
        (("fit", "file:///models/small.gguf", "--context", "1"), "InvalidSpec: spec.requirements.contextTokens: "),
        (("what-if",), "NothingSupposed: "),
        (("what-if", "-f", "nothing.yaml"), "FileUnusable: nothing.yaml cannot be read: "),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code(
    command: tuple[str, ...], said: str, fleet_environment: dict[str, str]
) -> None:
    refused = run(fleet_environment, *command)

    assert refused.exit_code == 1
    assert refused.stderr.startswith(said)
    assert SECRET not in refused.stderr


def test_several_models_come_from_one_file_each_in_its_namespace(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    elsewhere = MODEL.replace("name: second", "name: third\n  namespace: other")
    path.write_text(f"{MODEL}---\n{elsewhere}---\n")

    found = local_models(str(path), namespace="team")

    assert [(each["namespace"], each["name"]) for each in found] == [("team", "second"), ("other", "third")]
    assert found[0]["spec"]["requirements"] == {"contextTokens": 2048}
    with pytest.raises(CommandError, match="holds 2 LocalModels"):
        question_of_fit(str(path), namespace="team", requirements={})


def test_options_come_before_what_a_local_model_says(manifest: Path) -> None:
    asked = question_of_fit(str(manifest), namespace="team", requirements={"contextTokens": 64})

    assert asked["spec"]["requirements"] == {"contextTokens": 64}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("kind: Pod\napiVersion: v1\nmetadata: {name: x}\n", "NotALocalModel"),
        ("- 1\n", "NotALocalModel"),
        (MODEL.replace("name: second", ""), "NotALocalModel"),
        (MODEL.replace("spec:", "spec: 1\nrest:"), "NotALocalModel"),
        ("a: [\n", "FileUnusable"),
        ("", "NotALocalModel"),
    ],
)
def test_what_is_no_local_model_is_refused(text: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(text)

    with pytest.raises(CommandError) as error:
        question_of_fit(str(path), namespace="team", requirements={})

    assert error.value.code == code


def test_a_damaged_model_file_is_refused_with_the_reader_s_own_code(gguf: Path) -> None:
    gguf.write_bytes(gguf.read_bytes()[:-1])

    with pytest.raises(CommandError) as error:
        question_of_fit(str(gguf), namespace="team", requirements={})

    assert error.value.code == "CorruptHeader"


@pytest.mark.parametrize("length", [4096, 5000])
def test_whatever_the_reader_of_headers_lets_through_may_be_asked(length: int, gguf: Path) -> None:
    many = [u32(f"llama.key_{number}", 2**31 - 1) for number in range(200)]
    gguf.write_bytes(Gguf(keys=[*llama_keys(), *many, u32s("llama.layers", [1] * length)]).bytes())

    header = question_of_fit(str(gguf), namespace="team", requirements={})["header"]

    assert len(header["numbers"]) == 128


def test_of_a_model_file_only_its_header_is_asked_about(gguf: Path) -> None:
    asked = question_of_fit(str(gguf), namespace="team", requirements={})

    assert set(asked) == {"header", "requirements"}
    assert (asked["header"]["architecture"], asked["header"]["blockCount"]) == ("llama", 2)
    assert str(gguf.parent) not in json.dumps(asked)
