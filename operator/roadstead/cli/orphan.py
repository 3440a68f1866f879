"""Freeing a LocalModel whose operator is gone: nobody is left to take its finalizer off, so nothing can delete it.

Works with a kubeconfig alone. An operator that lives would set the finalizer again, and would lose its chance to clean
up first: while one renews its Lease, this is refused. What is left is found out before the finalizer goes, because
the object may vanish with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import sleep
from typing import Final

from roadstead.cli.failures import EXIT_REFUSED, CommandError
from roadstead.cli.kube import KubeApi, KubeRefused, Object
from roadstead.cli.local_models import GROUP, local_model, path_of, revisions
from roadstead.domain.quantity import in_words

FINALIZERS: Final = ("roadstead.dev/finalizer", "roadstead.dev/kopf")
_RENEWED_WITHIN_SECONDS: Final = 5
"""Longer than a living operator takes from one renewal of its Lease to the next."""
_DEFAULT_LEASE_SECONDS: Final = 15
_ATTEMPTS: Final = 5
_NOT_FOUND, _CONFLICT, _FORBIDDEN = 404, 409, 403


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """One thing that stays behind, or may."""

    kind: str
    name: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was done."""

    namespace: str
    name: str
    removed: tuple[str, ...]
    """Finalizers of ours that were there."""
    deleting: bool
    others: tuple[str, ...]
    """Finalizers of others, which still hold it."""
    left: tuple[Left, ...]


def free(
    kube: KubeApi,
    *,
    namespace: str,
    name: str,
    product_namespace: str,
    release: str,
    force: bool,
) -> Freed:
    """Take our finalizers off; ``CommandError`` ``OperatorLives`` unless ``force``."""
    model = local_model(kube, namespace, name)
    if not force:
        require_no_operator(kube, product_namespace, f"{release}-operator")
    left = tuple(_left_behind(kube, model, product_namespace))
    model = _without_our_finalizers(kube, model)
    metadata = model["metadata"]
    held: list[str] = metadata.get("finalizers") or []
    return Freed(
        namespace=namespace,
        name=name,
        removed=tuple(each for each in held if each in FINALIZERS),
        deleting="deletionTimestamp" in metadata,
        others=tuple(each for each in held if each not in FINALIZERS),
        left=left,
    )


def _without_our_finalizers(kube: KubeApi, model: Object) -> Object:
    """The model as it was just before they were taken off."""
    namespace, name = model["metadata"]["namespace"], model["metadata"]["name"]
    for _ in range(_ATTEMPTS):
        metadata = model["metadata"]
        held: list[str] = metadata.get("finalizers") or []
        others = [each for each in held if each not in FINALIZERS]
        if len(others) == len(held):
            return model
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": others or None}}
        try:
            kube.merge(path_of(namespace, name), patch)
        except KubeRefused as refused:
            if refused.http_status != _CONFLICT:
                raise
            model = local_model(kube, namespace, name)  # somebody wrote meanwhile
        else:
            return model
    raise CommandError(
        "KeepsChanging",
        f"Somebody writes to {namespace}/{name} all the time.",
        remedy="Find out who, end that, and run the command again.",
    )


def require_no_operator(kube: KubeApi, namespace: str, lease: str) -> None:
    """``CommandError`` ``OperatorLives`` or ``OperatorNotKnown``.

    The holder's clock may be wrong, so the Lease is watched: a new version of it tells that somebody renews it. Without
    one it stays fresh for its duration, because an operator that lost its rights or its life could not give it back.
    """
    found = _lease(kube, namespace, lease)
    if found is None or not (holder := found["spec"].get("holderIdentity")):
        return
    for _ in range(_watched_seconds(found["spec"])):
        sleep(1)
        again = _lease(kube, namespace, lease)
        if again is None or not again["spec"].get("holderIdentity"):
            return
        if again["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            break
    else:
        return
    raise CommandError(
        "OperatorLives",
        f"An operator leads: {holder} holds the Lease {namespace}/{lease}.",
        remedy="Delete the LocalModel with kubectl and let the operator clean up. --force frees it all the same.",
        status=EXIT_REFUSED,
    )


def _watched_seconds(spec: Object) -> int:
    duration = int(spec.get("leaseDurationSeconds") or _DEFAULT_LEASE_SECONDS)
    age = _age_seconds(spec.get("renewTime"))
    return _RENEWED_WITHIN_SECONDS if age is not None and age > duration else max(_RENEWED_WITHIN_SECONDS, duration)


def _lease(kube: KubeApi, namespace: str, name: str) -> Object | None:
    try:
        return kube.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}")
    except KubeRefused as refused:
        if refused.http_status == _NOT_FOUND:
            return None
        if refused.http_status != _FORBIDDEN:
            raise
        raise CommandError(
            "OperatorNotKnown",
            f"You may not read the Lease {namespace}/{name}, so whether an operator lives cannot be known.",
            remedy="Ask the platform team; --force frees the model all the same.",
            status=EXIT_REFUSED,
        ) from refused


def _age_seconds(renewed: object) -> float | None:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(str(renewed))).total_seconds()
    except (ValueError, TypeError):
        return None


# ── What it leaves ───────────────────────────────────────────────────────────────────────────────────────────────────


def _left_behind(kube: KubeApi, model: Object, product_namespace: str) -> Iterator[Left]:
    namespace, name = model["metadata"]["namespace"], model["metadata"]["name"]
    key = f"{namespace}/{name}"
    yield from _routes(kube, key, product_namespace)
    try:
        kept = revisions(kube, model)
    except KubeRefused as refused:
        kept = []
        yield Left(kind="ControllerRevision", name="?", words=f"could not be listed: {refused.sentence}")
    for revision in kept:
        words = "a kept release; goes when the LocalModel is deleted"
        yield Left(kind="ControllerRevision", name=f"{namespace}/{revision['metadata']['name']}", words=words)
    slots = model.get("status", {}).get("slots") or []
    for slot in slots:
        words = (
            f"{slot.get('replicas', 0)} replicas of {slot.get('variant')} on {slot.get('node')}, as its status knows"
        )
        yield Left(kind="Slot", name=str(slot.get("name")), words=f"{words}: Ray goes on running it")
    yield from _weights(kept, slots)
    yield Left(
        kind="Ledger",
        name=key,
        words="its releases and their history stay; what is open there, the next operator closes",
    )


def _routes(kube: KubeApi, key: str, product_namespace: str) -> Iterator[Left]:
    try:
        routes = kube.get(f"{GROUP}/namespaces/{product_namespace}/modelroutes").get("items", [])
    except KubeRefused as refused:
        yield Left(kind="ModelRoute", name="?", words=f"could not be listed: {refused.sentence}")
        return
    for route in routes:
        if route.get("spec", {}).get("model") == key:
            name = route["metadata"]["name"]
            words = f"gateways go on by it: kubectl delete modelroute -n {product_namespace} {name}"
            yield Left(kind="ModelRoute", name=f"{product_namespace}/{name}", words=words)


def _weights(kept: list[Object], slots: list[Object]) -> Iterator[Left]:
    """Artifacts of the kept releases; where they lie is known of the variants that have slots."""
    nodes: dict[str, set[str]] = {}
    for slot in slots:
        nodes.setdefault(str(slot.get("variant")), set()).add(str(slot.get("node")))
    artifacts: dict[str, tuple[str, int]] = {}
    for revision in kept:
        for content in (revision.get("data") or {}).get("contents", []):
            artifact = content.get("artifact", {})
            artifacts[str(artifact.get("digest"))] = (str(content.get("variant")), int(artifact.get("bytes") or 0))
    for digest, (variant, size) in sorted(artifacts.items(), key=lambda each: each[1]):
        places = ", ".join(sorted(nodes.get(variant, ())))
        where = f"in the stores of {places}, and perhaps of others" if places else "perhaps in the stores of nodes"
        yield Left(kind="Weights", name=digest[:19], words=f"{in_words(size)} of {variant} {where}")
