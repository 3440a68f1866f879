"""``build``: what Ray Serve calls to make a slot's application out of ``SlotArgs``.

Build tasks run on any node, in a fresh process each, so this imports nothing of an engine. Deployment options
(replicas, label selector, timeouts, ``user_config``) come from the configuration that the operator puts, never from
here; ``docs/explanation/replica.md`` lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roadstead_worker.contract import SLOT_DEPLOYMENT, SlotArgs

if TYPE_CHECKING:
    from ray.serve import Application


def build(args: dict[str, Any]) -> Application:
    """The application. Raises ``ValidationError`` for arguments that are wrong: it then ends in DEPLOY_FAILED."""
    from ray import serve  # noqa: PLC0415 - so that the arguments can be checked, and tested, without Ray

    from roadstead_worker.replica.slot import SlotReplica  # noqa: PLC0415 - likewise

    checked = SlotArgs.model_validate(args)
    deployment = serve.deployment(name=SLOT_DEPLOYMENT)(serve.ingress()(SlotReplica))
    application: Application = deployment.bind(checked.model_dump(mode="json"))
    return application
