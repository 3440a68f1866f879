"""A plan's actions in words. Addresses, secrets and whole sources stay out of them."""

from __future__ import annotations

from roadstead.api import answers
from roadstead.domain import plan as planned
from roadstead.domain.quantity import in_words
from roadstead.domain.sources import without_secrets


def told_action(action: planned.Action) -> answers.Action:
    """What is done to what."""
    about, message = _words(action)
    return answers.Action(kind=type(action).__name__, object=about, message=message)


def _words(action: planned.Action) -> tuple[str, str]:
    match action:
        case planned.SetFinalizer(model=model):
            return str(model.key), "set the finalizer, so that nothing is left behind at its end"
        case planned.ClearFinalizer(model=model):
            return str(model.key), "clear the finalizer: everything it had is gone"
        case planned.Resolve(key=key):
            return key.node, f"ask what is behind {without_secrets(key.source)}"
        case planned.MakeRelease(model=model, contents=contents):
            variants = ", ".join(sorted({content.variant for content in contents}))
            return str(model.key), f"record a release of {variants}"
        case planned.ForgetRelease(model=model, number=number):
            return str(model.key), f"keep release {number} no longer at hand"
        case planned.FetchWeights(node=node, artifact=artifact, source=source):
            return node, f"fetch {in_words(artifact.bytes)} from {without_secrets(source)}"
        case planned.ForgetWeights(node=node, digest=digest):
            return node, f"remove {digest}"
        case planned.ConfigureCell(cell=cell, put=put, remove=remove):
            changes = [*(f"start {slot.name}" for slot in put), *(f"end {name}" for name in remove)]
            return cell, "; ".join(changes)
        case planned.PublishRoute(route=route):
            return str(route.model), "tell the gateways its route"
        case planned.WithdrawRoute(route=route):
            return str(route.model), "withdraw its route from the gateways"
        case _:
            return _words_of_pods(action)


def _words_of_pods(
    action: planned.RecordAdoption
    | planned.KeepClaim
    | planned.RunPod
    | planned.RemovePod
    | planned.ProtectPod
    | planned.UnprotectPod,
) -> tuple[str, str]:
    match action:
        case planned.RecordAdoption(pool=pool, engines=engines):
            return pool, "adopt " + ", ".join(f"{build.engine} {build.image}" for build in engines)
        case planned.KeepClaim(claim=claim):
            return claim.name, "have the claim for a node's weights"
        case planned.RunPod(pod=pod):
            return pod.name, f"run the {pod.role.value} of {pod.node}"
        case planned.RemovePod(name=name):
            return name, "remove the Pod"
        case planned.ProtectPod(name=name):
            return name, "keep evictions off the Pod"
        case planned.UnprotectPod(name=name):
            return name, "let evictions have the Pod"
