"""What the how-to pages give Helm is what the chart takes. `tests/cluster` runs the pages on a cluster."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from roadstead.adapters.kube.parse import model_spec
from tests.contract.chart.conftest import CHART, DIGEST, VALUES, Helm

pytestmark = pytest.mark.contract

PAGES = [CHART.parents[1] / "docs/how-to" / f"{name}.md" for name in ("install", "upgrade", "uninstall")]
SET_BEFORE = {"REGISTRY": "registry.lan", "WORKER_DIGEST": DIGEST, "NEW_WORKER_DIGEST": DIGEST}


def shown_commands() -> Iterator[Any]:
    """Every `helm install`, `upgrade` and `template` of the pages, in words."""
    number = itertools.count(1)
    for page in PAGES:
        for block in re.findall(r"^```shell\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\$(\w+)", lambda found: SET_BEFORE.get(found[1], found[0]), line)
                if re.match(r"helm (install|upgrade|template) ", command):
                    words = shlex.split(command.partition(" | ")[0])
                    yield pytest.param(words, id=f"{page.stem}-{next(number)}-{words[1]}")


def shown_values() -> Iterator[Any]:
    for page in PAGES:
        for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            yield pytest.param(text, id=page.stem)


@pytest.mark.parametrize("words", list(shown_commands()))
def test_what_a_page_gives_helm_is_taken(words: list[str], helm: Helm) -> None:
    verb, release, chart, *options = words[1:]
    assert (release, chart) == ("roadstead", "charts/roadstead")
    settings = [value for name, value in itertools.pairwise(options) if name == "--set"]
    before = ["--values", str(VALUES / "right" / "one-pool.yaml")] if verb == "upgrade" else []
    namespace = options[options.index("--namespace") + 1]

    given = [argument for setting in settings for argument in ("--set", setting)]

    assert helm("template", release, CHART, "--namespace", namespace, *before, *given)


@pytest.mark.parametrize("text", list(shown_values()))
def test_values_that_a_page_shows_are_taken(text: str, helm: Helm, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(text.replace("sha256:…", DIGEST))

    assert helm.rendered(VALUES / "right" / "one-pool.yaml", tmp_path / "values.yaml")


def test_the_notes_end_with_three_commands_that_can_be_carried_out(helm: Helm) -> None:
    said = helm(
        *("install", "fleet", CHART, "--namespace", "ai", "--dry-run=client"),
        *("--values", VALUES / "right" / "two-namespaces.yaml"),
    )
    notes = said.partition("\nNOTES:\n")[2]
    shown = re.search(r"<<END\n(?P<model>.*?)\n +END\n", notes, flags=re.DOTALL)

    assert shown is not None
    _, problems = model_spec(yaml.safe_load(shown["model"])["spec"], name="smollm2")
    assert problems == ()
    commands = re.findall(r"^\d\. .*\n\n +(.*)", notes, flags=re.MULTILINE)
    assert commands == [
        "kubectl apply -n team-a -f - <<END",
        "kubectl wait -n team-a --for=condition=Ready lm/smollm2 --timeout=10m",
        "helm test fleet --namespace ai --logs",
    ]
