"""Which applications the head agent lets through, and what the base digest is blind to."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from roadstead_worker.agent.cell_state import application_states, base_of, settled
from roadstead_worker.agent.ray_rest import RayServe
from roadstead_worker.agent.serve_config import ConfigInvalid, base_digest, checked_applications
from roadstead_worker.contract import SLOT_IMPORT_PATH


def application(name: str = "alpha") -> dict[str, Any]:
    return {
        "name": name,
        "route_prefix": f"/s/{name}",
        "import_path": SLOT_IMPORT_PATH,
        "args": {"threads": 1, "engine_args": []},
        "deployments": [
            {
                "name": "Slot",
                "num_replicas": 1,
                "graceful_shutdown_timeout_s": 30,
                "ray_actor_options": {"num_cpus": 0, "label_selector": {"roadstead.dev/node": "node-a"}},
                "user_config": {"release": 1},
            }
        ],
    }


def changed(path: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    result = copy.deepcopy(application())
    *parents, last = path.split(".")
    inner: Any = result
    for part in parents:
        inner = inner[int(part) if part.isdigit() else part]
    inner[last] = value
    return result


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("runtime_env", {"env_vars": {}}),
        ("deployments.0.graceful_shutdown_timeout_s", 30.0),
        ("deployments.0.ray_actor_options.num_cpus", 0.0),
        ("deployments.0.ray_actor_options.runtime_env", {}),
        ("deployments.0.max_surge_percent", None),
    ],
)
def test_what_ray_may_add_leaves_the_base_as_it_is(path: str, value: Any) -> None:  # noqa: ANN401
    assert base_digest([changed(path, value)]) == base_digest([application()])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("args.threads", 2),
        ("deployments.0.num_replicas", 2),
        ("deployments.0.user_config.release", 2),
        ("deployments.0.ray_actor_options.label_selector", {"roadstead.dev/node": "node-b"}),
        ("import_path", "os:system"),
    ],
)
def test_what_somebody_changed_changes_the_base(path: str, value: Any) -> None:  # noqa: ANN401
    assert base_digest([changed(path, value)]) != base_digest([application()])


def test_order_does_not_matter_and_nothing_differs_from_something() -> None:
    two = [application("alpha"), application("beta")]
    assert base_digest(two) == base_digest(reversed(two))
    assert len({base_digest(two), base_digest(two[:1]), base_digest([])}) == 3


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("typo", 1, "applications.0.typo"),
        ("import_path", "os:system", "applications.0.import_path"),
        ("name", "../x", "applications.0.name"),
        ("deployments.0.num_replicas", 0, "applications.0.deployments.0.num_replicas"),
        ("deployments.0.placement_group_bundles", [], "applications.0.deployments.0.placement_group_bundles"),
        (
            "deployments.0.ray_actor_options.runtime_env",
            {},
            "applications.0.deployments.0.ray_actor_options.runtime_env",
        ),
    ],
)
def test_what_is_not_a_slot_of_ours_is_refused_by_its_field(path: str, value: Any, field: str) -> None:  # noqa: ANN401
    with pytest.raises(ConfigInvalid) as refused:
        checked_applications([changed(path, value)])
    assert refused.value.field == field


def test_an_application_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="alpha is listed more than once"):
        checked_applications([application(), application()])


def test_what_passes_is_put_as_it_came() -> None:
    assert checked_applications([application()]) == [application()]


def serve(
    *, status: str = "RUNNING", replica: str = "RUNNING", target: str = "SERVE_REPLICA::alpha#Slot#1"
) -> RayServe:
    return RayServe.model_validate(
        {
            "applications": {
                "alpha": {
                    "name": "alpha",
                    "status": status,
                    "message": "",
                    "deployed_app_config": application(),
                    "deployments": {
                        "Slot": {
                            "status": "HEALTHY",
                            "message": "why",
                            "replicas": [
                                {
                                    "replica_id": "1",
                                    "state": replica,
                                    "pid": 7,
                                    "actor_name": "SERVE_REPLICA::alpha#Slot#1",
                                }
                            ],
                        }
                    },
                }
            },
            "target_groups": [
                {
                    "app_name": "alpha",
                    "protocol": "HTTP",
                    "targets": [{"ip": "10.0.0.2", "port": 30000, "name": target}],
                },
                {"app_name": None, "protocol": "HTTP", "targets": [{"ip": "10.0.0.1", "port": 8000, "name": "proxy"}]},
            ],
        }
    )


def test_an_address_is_that_of_a_running_replica_and_never_the_proxys() -> None:
    assert application_states(serve(), replica_host="")[0].addresses == ("10.0.0.2:30000",)
    assert application_states(serve(), replica_host="127.0.0.10")[0].addresses == ("127.0.0.10:30000",)
    assert application_states(serve(target="SERVE_PROXY_ACTOR-1"), replica_host="")[0].addresses == ()
    assert application_states(serve(replica="STOPPING"), replica_host="")[0].addresses == ()


def test_an_application_under_deletion_is_out_of_the_base_and_has_no_config() -> None:
    deleting = serve(status="DELETING")
    assert base_of(deleting) == base_digest([])
    assert application_states(deleting, replica_host="")[0].config == {}


def test_a_cell_is_settled_when_nothing_is_under_way() -> None:
    assert settled(application_states(serve(), replica_host=""))
    assert not settled(application_states(serve(status="DEPLOYING"), replica_host=""))
    assert not settled(application_states(serve(replica="STARTING"), replica_host=""))
