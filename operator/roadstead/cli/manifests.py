"""LocalModels and model files on this machine, as the read API is asked about them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from roadstead.cli.failures import CommandError
from roadstead.cli.kube import Object

_MAGIC: Final = b"GGUF"
_KIND: Final = "LocalModel"
_GROUP: Final = "roadstead.dev/"
_ONLY_FOR_PEOPLE: Final = ("name", "licence", "extra")
"""Of the facts of a file; nothing is decided by them."""


def local_models(path: str, *, namespace: str) -> list[Object]:
    """The LocalModels of a file of YAML or JSON (``-``: standard input), whatever their specs say.

    ``namespace`` is that of those that name none. ``CommandError`` ``FileUnusable`` or ``NotALocalModel``.
    """
    import yaml  # noqa: PLC0415 - `--help` must not load the world

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        # As JSON, which has no times: the API server reads them as text, too.
        documents = json.loads(json.dumps([each for each in yaml.safe_load_all(text) if each], default=str))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _unusable(path, error) from error
    return [_manifest(each, path, namespace) for each in documents]


def question_of_fit(asked: str, *, namespace: str, requirements: Object) -> Object:
    """What ``/v1/fit`` is asked about a source, a model file or a LocalModel; ``CommandError``.

    ``requirements`` come before those of a LocalModel.
    """
    if "://" in asked:
        return {"source": asked, "requirements": requirements}
    path = Path(asked)
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise _unusable(asked, error) from error
    if magic == _MAGIC:
        return {"header": _header(path), "requirements": requirements}
    found = local_models(asked, namespace=namespace)
    if len(found) != 1:
        raise CommandError(
            "NotALocalModel",
            f"{asked} holds {len(found)} LocalModels: one is asked about at a time.",
            remedy="Split the file, or try `roadstead what-if --apply` with all of them.",
        )
    spec = found[0]["spec"]
    of_spec = spec.get("requirements") or {}
    if requirements and isinstance(of_spec, dict):
        spec = {**spec, "requirements": {**of_spec, **requirements}}
    return {**found[0], "spec": spec}


def _header(path: Path) -> Object:
    """What the header of a GGUF file says; no more of the file is read."""
    from roadstead.api.asked import Header  # noqa: PLC0415 - pydantic
    from roadstead_weights.errors import WeightsError  # noqa: PLC0415
    from roadstead_weights.gguf import read_facts  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            facts = read_facts(file, total=path.stat().st_size, name=path.name)
    except WeightsError as error:
        raise CommandError(
            error.code,
            error.message,
            remedy="See the reference of reason codes for what to do about it.",
            about=error.field,
        ) from error
    except OSError as error:
        raise _unusable(str(path), error) from error
    said = {name: value for name, value in asdict(facts).items() if name not in _ONLY_FOR_PEOPLE}
    return Header.model_validate(said).model_dump(mode="json", by_alias=True)


def _manifest(document: object, path: str, namespace: str) -> Object:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if (
        not isinstance(document, dict)
        or not isinstance(metadata, dict)
        or document.get("kind") != _KIND
        or not str(document.get("apiVersion", "")).startswith(_GROUP)
        or not isinstance(document.get("spec") or {}, dict)
        or not metadata.get("name")
    ):
        raise CommandError(
            "NotALocalModel",
            f"{path} holds something else than LocalModels.",
            remedy=f"Each document needs `apiVersion: {_GROUP}v1alpha1`, `kind: {_KIND}`, `metadata.name` and `spec`.",
        )
    return {
        "namespace": str(metadata.get("namespace") or namespace),
        "name": str(metadata["name"]),
        "spec": document.get("spec") or {},
    }


def _unusable(path: str, error: Exception) -> CommandError:
    why = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return CommandError(
        "FileUnusable",
        f"{path} cannot be read: {why}.",
        remedy="Name a LocalModel (YAML or JSON) or a GGUF file; a source has a scheme, as https://.",
    )
