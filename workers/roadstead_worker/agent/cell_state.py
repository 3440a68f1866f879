"""From Ray's words about a cell to ours: which slots there are, how they are, and where their replicas listen."""

from __future__ import annotations

from typing import Final

from roadstead_worker.agent.ray_rest import RayApplication, RayServe
from roadstead_worker.agent.serve_config import base_digest
from roadstead_worker.contract import ApplicationState, ReplicaState

MESSAGE_CHARACTERS: Final = 2_000
_RUNNING: Final = "RUNNING"
_SETTLED: Final = frozenset({_RUNNING, "DEPLOY_FAILED"})


def base_of(serve: RayServe) -> str:
    """Digest of the declarative applications in force: those under deletion are out already."""
    return base_digest(
        application.deployed_app_config
        for application in serve.applications.values()
        if application.deployed_app_config is not None and application.status != "DELETING"
    )


def application_states(serve: RayServe, *, replica_host: str) -> tuple[ApplicationState, ...]:
    """By name.

    ``replica_host`` takes the place of each target's address where replicas listen elsewhere; empty: it stands.
    """
    addresses = _addresses(serve, replica_host=replica_host)
    return tuple(
        _application_state(application, addresses.get(application.name, ()))
        for _, application in sorted(serve.applications.items())
    )


def settled(states: tuple[ApplicationState, ...]) -> bool:
    """Whether nothing is under way, as far as Ray tells."""
    return all(
        state.status in _SETTLED and all(replica.state == _RUNNING for replica in state.replicas) for state in states
    )


def _application_state(application: RayApplication, addresses: tuple[str, ...]) -> ApplicationState:
    deploying = application.status != "DELETING" and application.deployed_app_config is not None
    return ApplicationState(
        name=application.name,
        status=application.status,
        message=_message(application),
        addresses=addresses,
        replicas=tuple(
            ReplicaState(id=each.replica_id, state=each.state, node_ip=each.node_ip or "", pid=each.pid or 0)
            for each in sorted(application.replicas, key=lambda each: each.replica_id)
        ),
        config=application.deployed_app_config or {} if deploying else {},
    )


def _message(application: RayApplication) -> str:
    """The deployment's, a whole traceback: the application's is often empty or repeats it."""
    told = [deployment.message for deployment in application.deployments.values() if deployment.message]
    return "\n".join(told or [application.message])[-MESSAGE_CHARACTERS:]


def _addresses(serve: RayServe, *, replica_host: str) -> dict[str, tuple[str, ...]]:
    """Where running replicas listen. A target is one of them if its name is the actor name of a replica that runs."""
    running = {
        replica.actor_name
        for application in serve.applications.values()
        for replica in application.replicas
        if replica.state == _RUNNING and replica.actor_name
    }
    found: dict[str, set[str]] = {}
    for group in serve.target_groups:
        if group.app_name is None or group.protocol.upper() != "HTTP":
            continue
        for target in group.targets:
            if target.name in running:
                found.setdefault(group.app_name, set()).add(f"{replica_host or target.ip}:{target.port}")
    return {name: tuple(sorted(addresses)) for name, addresses in found.items()}
