"""What the documentation tells people to apply can be applied, and every field they may write is explained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from roadstead.adapters.kube.crd import custom_resource_definitions
from roadstead.adapters.kube.parse import model_spec

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^(?:```yaml\n|.*<<END\n)(?P<text>.*?)^(?:```|END)$", re.DOTALL | re.MULTILINE)


def shown_models() -> Iterator[Any]:
    """Every whole LocalModel in the examples and on the pages."""
    texts = [(path.name, path.read_text()) for path in sorted((DOCS / "examples").glob("*.yaml"))]
    texts += [(page.name, match["text"]) for page in PAGES for match in BLOCK.finditer(page.read_text())]
    for place, text in texts:
        for number, document in enumerate(yaml.safe_load_all(text)):
            if isinstance(document, dict) and document.get("kind") == "LocalModel":
                yield pytest.param(document, id=f"{place}-{number}")


@pytest.mark.parametrize("shown", list(shown_models()))
def test_a_model_that_the_documentation_shows_is_accepted(shown: Mapping[str, Any]) -> None:
    spec = yaml.safe_dump(shown["spec"], allow_unicode=True)
    for placeholder, value in {
        "MODELS": "/srv/models",
        "source: SOURCE": "source: file:///srv/models/model.gguf",
        "$ROADSTEAD_HOME": "/srv",
        "sha256:0f4c…": f"sha256:{'0f4c' * 16}",
    }.items():
        spec = spec.replace(placeholder, value)

    _, problems = model_spec(yaml.safe_load(spec), name=shown["metadata"]["name"])

    assert problems == ()


def fields(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every field that has no fields of its own, as the reference writes it."""
    children = schema.get("properties", {}) or schema.get("items", {}).get("properties", {})
    mark = "[]" if schema.get("type") == "array" and children else ""
    if not children:
        yield path
    for name, child in children.items():
        yield from fields(child, f"{path}{mark}.{name}" if path else name)


def schema_of_local_model() -> Mapping[str, Any]:
    crd = next(crd for crd in custom_resource_definitions() if crd["spec"]["names"]["kind"] == "LocalModel")
    schema: Mapping[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return schema


def test_every_field_of_a_spec_is_in_the_reference_and_no_other() -> None:
    spec = set(fields(schema_of_local_model()["spec"]))
    section = (DOCS / "reference/localmodel.md").read_text().split("## Spec")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `([\w.\[\]]+)` \|", section, flags=re.MULTILINE)) - {"variants"}

    assert documented == spec


def test_every_part_of_a_status_is_in_the_reference() -> None:
    section = (DOCS / "reference/localmodel.md").read_text().split("## Status")[1].split("\n## ")[0]

    missing = [name for name in schema_of_local_model()["status"]["properties"] if f"`{name}" not in section]

    assert missing == []
