"""LocalModels and their kept releases, as a person's kubeconfig reaches them."""

from __future__ import annotations

from typing import Final

from roadstead.cli.failures import CommandError
from roadstead.cli.kube import KubeApi, KubeRefused, Object
from roadstead.domain.slot import shortened

GROUP: Final = "/apis/roadstead.dev/v1alpha1"
_NOT_FOUND: Final = 404


def local_model(kube: KubeApi, namespace: str, name: str) -> Object:
    """As it is now; ``CommandError`` ``ModelNotFound``."""
    try:
        return kube.get(path_of(namespace, name))
    except KubeRefused as refused:
        if refused.http_status != _NOT_FOUND:
            raise
        raise CommandError(
            "ModelNotFound",
            f"There is no LocalModel {namespace}/{name}.",
            remedy="`kubectl get localmodels -A` lists those there are.",
        ) from refused


def path_of(namespace: str, name: str) -> str:
    """Where the API server has it."""
    return f"{GROUP}/namespaces/{namespace}/localmodels/{name}"


def revisions(kube: KubeApi, model: Object) -> list[Object]:
    """The ControllerRevisions of its kept releases."""
    metadata = model["metadata"]
    listed = kube.get(
        f"/apis/apps/v1/namespaces/{metadata['namespace']}/controllerrevisions",
        labelSelector=f"roadstead.dev/model={shortened(metadata['name'])}",
    )
    return [
        revision
        for revision in listed.get("items", [])
        if any(owner.get("uid") == metadata["uid"] for owner in revision["metadata"].get("ownerReferences", []))
    ]
