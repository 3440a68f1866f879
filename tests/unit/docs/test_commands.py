"""The references of the CLI and of the read API name everything that there is, and nothing that there is not."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, cast

import typer.main

from roadstead.api.app import read_api
from roadstead.api.guard import Guard
from roadstead.api.problems import ApiCode
from roadstead.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
CLI = (ROOT / "docs/reference/cli.md").read_text()
READ_API = (ROOT / "docs/reference/read-api.md").read_text()
EMBEDDED = (ROOT / "docs/reference/embedded.md").read_text()


def codes(section: str) -> set[str]:
    """First column of a table whose cells are codes."""
    return set(re.findall(r"^\| `([A-Z]\w+)` \|", section, flags=re.MULTILINE))


def raised_by_the_cli() -> set[str]:
    """The first argument of every ``CommandError`` that is a word of ours."""
    found = set()
    for path in (ROOT / "operator/roadstead/cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "CommandError":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_every_code_of_the_cli_is_in_its_reference_and_no_other() -> None:
    assert codes(CLI) == raised_by_the_cli()


def test_every_command_and_option_is_in_the_reference() -> None:
    group, options = cast("Any", typer.main.get_command(app)), 0
    for name, command in group.commands.items():
        assert f"`roadstead {name}" in CLI + EMBEDDED or f"`{name}`" in CLI, name
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                options += 1
                flags = (*parameter.opts, *parameter.secondary_opts)
                assert any(f"`{flag}" in CLI + EMBEDDED for flag in flags), f"{name} {flags}"
    assert options > 20


def test_every_code_of_the_read_api_is_in_its_reference_and_no_other() -> None:
    assert codes(READ_API) == {code.value for code in ApiCode}


def test_every_path_and_parameter_of_the_read_api_is_in_its_reference_and_no_other() -> None:
    guard = read_api(outlook=cast("Any", None), questions=cast("Any", None), logs=cast("Any", None), token=lambda: "")
    assert isinstance(guard, Guard)
    schema = cast("Any", guard._app).openapi()
    assert set(re.findall(r"^\| `(/v1/[^`]*)` \|", READ_API, flags=re.MULTILINE)) == set(schema["paths"])
    asked = {
        parameter["name"]
        for operations in schema["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query"
    }
    told = READ_API.split("## What if")[1].split("\n## Errors")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", told, flags=re.MULTILINE)) == asked


def test_every_shape_of_the_read_api_is_described() -> None:
    guard = read_api(outlook=cast("Any", None), questions=cast("Any", None), logs=cast("Any", None), token=lambda: "")
    schemas = cast("Any", guard)._app.openapi()["components"]["schemas"]
    assert "Problem" in schemas
    for name, schema in schemas.items():
        assert schema.get("description"), name
