"""``python -m roadstead.adapters.kube.schema [--check]``: the chart's CRD files from the pydantic models.

The files are committed, so that a reader, Helm and `kubectl apply` need no Python; a test keeps them equal to
the models.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from roadstead.adapters.kube.crd import custom_resource_definitions

FOLDER = Path(__file__).resolve().parents[4] / "charts" / "roadstead" / "crds"
_HEADER = "# Made by `python -m roadstead.adapters.kube.schema` from operator/roadstead/adapters/kube; do not edit.\n"


def files() -> dict[str, str]:
    """Name and text of each file."""
    return {
        f"{crd['spec']['names']['plural']}.yaml": _HEADER
        + yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)
        for crd in custom_resource_definitions()
    }


def differing(folder: Path) -> list[str]:
    """Names of files that are missing, left over, or say something else than the models."""
    wanted = files()
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` only compare them."""
    parser = argparse.ArgumentParser(prog="python -m roadstead.adapters.kube.schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if a file differs from the models")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    if options.check:
        wrong = differing(folder)
        if wrong:
            sys.stderr.write(f"differ from the models: {', '.join(wrong)}; run python -m {__spec__.name}\n")
        return 1 if wrong else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
