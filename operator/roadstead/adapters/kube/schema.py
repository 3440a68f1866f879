"""``python -m roadstead.adapters.kube.schema write|check|apply``: the CRDs, made, compared and brought into a cluster.

``write`` makes the chart's files from the pydantic models and raises the revision of each schema that changed;
``check`` says what ``write`` would do. The files are committed, so that a reader, Helm and `kubectl apply` need no
Python. ``apply`` brings the cluster's definitions up to those files and never down; the chart's hook runs it before an
upgrade.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import yaml

from roadstead.adapters.kube import schema_revisions
from roadstead.adapters.kube.api import APPLY, Api, ApiRefused, connected
from roadstead.adapters.kube.crd import custom_resource_definitions, definition_spec
from roadstead.adapters.kube.definitions import Definition, DefinitionProblem, Overtaken, bring_up, packaged
from roadstead.adapters.kube.resources import KINDS
from roadstead.adapters.kube.schema_revisions import Digests
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.ports import DoorError

FOLDER = Path(__file__).resolve().parents[4] / "charts" / "roadstead" / "crds"
FIELD_MANAGER = "roadstead-crds"
_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_HEADER = "# Made by `make schema` from operator/roadstead/adapters/kube; do not edit.\n"


class ApiDefinitions:
    """The definitions of the API server that the operator's client is connected to."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def read(self, name: str) -> Definition | None:
        """The definition as it is, None if there is none."""
        try:
            return await self._api.request("GET", f"{_PATH}/{name}")
        except ApiRefused as refusal:
            if refusal.status == 404:
                return None
            raise

    async def create(self, definition: Definition) -> None:
        """Create it; ``Overtaken`` if it exists."""
        await self._write("POST", _PATH, {"fieldManager": FIELD_MANAGER}, definition, "application/json")

    async def apply(self, definition: Definition) -> None:
        """Apply it; the fields that it names become ours whoever had them, and no other field is touched."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        await self._write("PATCH", f"{_PATH}/{definition['metadata']['name']}", query, definition, APPLY)

    async def _write(self, method: str, path: str, query: dict[str, str], body: Definition, content_type: str) -> None:
        try:
            await self._api.request(method, path, query=query, body=body, content_type=content_type)
        except ApiRefused as refusal:
            if refusal.status == 409:
                raise Overtaken from refusal
            raise


def files(digests: Digests | None = None) -> dict[str, str]:
    """Name and text of each file."""
    return {
        f"{crd['spec']['names']['plural']}.yaml": _HEADER
        + yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)
        for crd in custom_resource_definitions(digests)
    }


def specs() -> dict[str, Definition]:
    """What each definition says, by plural name."""
    return {kind.plural: definition_spec(kind) for kind in KINDS}


def write(folder: Path, revisions: Path) -> None:
    """Make the files; a schema that is not the last one of its kind becomes the next revision."""
    digests = schema_revisions.raised(_digests(revisions), specs())
    revisions.write_text(schema_revisions.render(digests), encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files(digests).items():
        (folder / name).write_text(text, encoding="utf-8")


def complaints(folder: Path, revisions: Path) -> list[str]:
    """What ``write`` would change, in words: schemas without a revision, files missing, left over or edited."""
    digests = _digests(revisions)
    wanted = files(digests)
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    return [
        *(
            f"the schema of {plural} has changed since revision {len(digests.get(plural, ()))}"
            for plural, raised in schema_revisions.raised(digests, specs()).items()
            if raised != digests.get(plural)
        ),
        *(
            f"{name} differs from the models"
            for name in sorted(wanted.keys() | present.keys())
            if wanted.get(name) != present.get(name)
        ),
    ]


async def apply(kubeconfig: Path | None = None) -> None:
    """Bring the cluster up to the packaged definitions."""
    async with connected(KubeSettings(kubeconfig=kubeconfig)) as api:
        await bring_up(ApiDefinitions(api), packaged(), say=_say)


def main(arguments: list[str]) -> int:
    """Do one of the three; 1 if it cannot be done or, for ``check``, if there is something to do."""
    parser = argparse.ArgumentParser(prog="python -m roadstead.adapters.kube.schema", description=__doc__)
    parser.add_argument("what", choices=("write", "check", "apply"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files are written and compared")
    parser.add_argument("--revisions", type=Path, default=schema_revisions.FILE, help="the list of digests")
    options = parser.parse_args(arguments)
    match options.what:
        case "write":
            write(options.folder, options.revisions)
        case "check":
            found = complaints(options.folder, options.revisions)
            sys.stderr.writelines(f"{line}; run make schema\n" for line in found)
            return 1 if found else 0
        case _:
            try:
                asyncio.run(apply())
            except (DoorError, DefinitionProblem) as error:
                sys.stderr.write(f"{error}\n")
                return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _digests(revisions: Path) -> Digests:
    return schema_revisions.parse(revisions.read_text(encoding="utf-8")) if revisions.exists() else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
