"""Writes the chart's values.yaml and docs/reference/values.md from values.schema.json, the one home of all three.

Types, limits, descriptions and defaults stand in the schema, because that is what refuses a wrong value. Two files for
people are made from it, so that none of the three can say something else than the others. ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "charts/roadstead/values.schema.json"
VALUES = ROOT / "charts/roadstead/values.yaml"
REFERENCE = ROOT / "docs/reference/values.md"
WIDTH = 120
VALUES_HEADER = """\
# Made by `python tools/chart_values.py` from values.schema.json; do not edit.
# Everything that can be set, with its default. docs/reference/values.md has the same as tables.
"""
REFERENCE_HEADER = """\
# Values of the chart

Everything that `helm install` can be told; `helm show values charts/roadstead` prints the same.
A field that is not here is refused by its path, and so is a value of the wrong shape.
`POOL`, `CELL` and `KEY` stand for names of your own.
"""

Node = dict[str, Any]


class Schema:
    """The schema with its references put in place."""

    def __init__(self, text: str) -> None:
        self.root: Node = json.loads(text)

    def resolved(self, node: Node) -> Node:
        """The node, over what it refers to."""
        name = node.get("$ref", "").removeprefix("#/definitions/")
        if not name:
            return node
        return self.resolved(self.root["definitions"][name]) | {key: node[key] for key in node if key != "$ref"}

    def children(self, node: Node) -> dict[str, Node]:
        """Fields of a node, by name. A default of the node is handed down to them."""
        handed = node.get("default")
        found = {}
        for name, raw in node.get("properties", {}).items():
            child = self.resolved(raw)
            if isinstance(handed, dict) and name in handed:
                child = child | {"default": handed[name]}
            found[name] = child
        return found

    def entry(self, node: Node) -> tuple[str, Node] | None:
        """What a map of names of one's own, or a list of objects, holds, and how its place is written."""
        if isinstance(node.get("additionalProperties"), dict):
            return ".*", self.resolved(node["additionalProperties"])
        if isinstance(node.get("items"), dict):
            return "[]", self.resolved(node["items"])
        return None


# ── values.yaml ──────────────────────────────────────────────────────────────────────────────────────────────────────


def values_yaml(schema: Schema) -> str:
    """The file, with each field's description above it."""
    return VALUES_HEADER + "".join(_value_lines(schema, schema.root, depth=0))


def _value_lines(schema: Schema, node: Node, *, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, child in schema.children(node).items():
        if depth == 0:
            yield "\n"
        described = child.get("description")
        if described:
            yield textwrap.indent(textwrap.fill(described, WIDTH - 2 - len(indent)), f"{indent}# ") + "\n"
        nested = schema.children(child)
        if nested and ("default" not in child or (child["default"] and _says_more(nested))):
            yield f"{indent}{name}:\n"
            yield from _value_lines(schema, child, depth=depth + 1)
        else:
            yield f"{indent}{name}: {_flow(child['default'])}\n"


def _says_more(children: dict[str, Node]) -> bool:
    return any("description" in child for child in children.values())


def _flow(value: object) -> str:
    """One line of YAML."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if not value or yaml.safe_load(value) != value else value
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip().removesuffix("\n...")


# ── docs/reference/values.md ─────────────────────────────────────────────────────────────────────────────────────────


def reference(schema: Schema) -> str:
    """The page: a section for each top-level field."""
    sections = []
    for name, node in schema.children(schema.root).items():
        rows = list(_rows(schema, name, node))
        table = "".join(f"| `{path}` | {default} | {words} |\n" for path, default, words in rows)
        intro = f"{node['description']}\n\n" if len(rows) > 1 or schema.children(node) else ""
        sections.append(f"\n## {name}\n\n{intro}| field | default | meaning |\n|---|---|---|\n{table}")
    return REFERENCE_HEADER + "".join(sections)


def _rows(schema: Schema, path: str, node: Node) -> Iterator[tuple[str, str, str]]:
    children = schema.children(node)
    entry = schema.entry(node)
    leaf = "default" in node and not (node["default"] and _says_more(children))
    if leaf or not children:
        yield path, _shown(node), _words(node)
    if children and (not leaf or _says_more(children)):
        for name, child in children.items():
            yield from _rows(schema, f"{path}.{name}", child)
    if entry is not None and schema.children(entry[1]) and _says_more(schema.children(entry[1])):
        place = entry[0].replace("*", {"workerPools": "POOL", "cells": "CELL"}.get(path, "KEY"))
        for name, child in schema.children(entry[1]).items():
            if "description" in child:
                yield from _rows(schema, f"{path}{place}.{name}", child)


def _shown(node: Node) -> str:
    return f"`{_flow(node['default'])}`" if "default" in node else ""


def _words(node: Node) -> str:
    said = str(node.get("description", ""))
    if "enum" in node:
        said += " One of " + ", ".join(f"`{value}`" for value in node["enum"]) + "."
    if node.get("type") == "integer" and "default" in node:
        said += f" {node['minimum']} to {node['maximum']}."
    return said.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write both files, or with ``--check`` compare them; the exit status is 1 if one differs."""
    parser = argparse.ArgumentParser(prog="python tools/chart_values.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if a file says something else")
    options = parser.parse_args(arguments)
    schema = Schema(SCHEMA.read_text(encoding="utf-8"))
    made = {VALUES: values_yaml(schema), REFERENCE: reference(schema)}
    if not options.check:
        for path, text in made.items():
            path.write_text(text, encoding="utf-8")
        return 0
    wrong = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in wrong:
        print(f"{path.relative_to(ROOT)} differs from the schema; run python tools/chart_values.py")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
