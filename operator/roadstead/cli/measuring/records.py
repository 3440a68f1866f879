"""Records into the annotation of the LocalModel: what others wrote there meanwhile stays."""

from __future__ import annotations

from typing import Final

from roadstead.cli.failures import CommandError
from roadstead.cli.kube import KubeApi, KubeRefused, Object
from roadstead.cli.local_models import local_model, path_of
from roadstead.domain.quality import ANNOTATION, QualityRecord, RecordsUnreadable, from_text, to_text

_ATTEMPTS: Final = 5
_CONFLICT: Final = 409


def write_record(kube: KubeApi, model: Object, record: QualityRecord, *, kept: frozenset[str]) -> None:
    """Beside those of other artifacts in ``kept``; what cannot be read there is replaced."""
    namespace, name, uid = (model["metadata"][field] for field in ("namespace", "name", "uid"))
    for _ in range(_ATTEMPTS):
        metadata = local_model(kube, namespace, name)["metadata"]
        if metadata["uid"] != uid:
            raise CommandError(
                "ModelNotFound",
                f"{namespace}/{name} was deleted and made again while it was measured.",
                remedy="Run the command again.",
            )
        others = [each for each in _records(metadata) if each.artifact in kept - {record.artifact}]
        patch = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "annotations": {ANNOTATION: to_text([*others, record])},
            }
        }
        try:
            kube.merge(path_of(namespace, name), patch)
        except KubeRefused as refused:
            if refused.http_status != _CONFLICT:
                raise
        else:
            return
    raise CommandError(
        "KeepsChanging",
        f"Somebody writes to {namespace}/{name} all the time.",
        remedy="Find out who, end that, and run the command again.",
    )


def _records(metadata: Object) -> tuple[QualityRecord, ...]:
    try:
        return from_text((metadata.get("annotations") or {}).get(ANNOTATION))
    except RecordsUnreadable:
        return ()
