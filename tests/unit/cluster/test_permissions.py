"""Roles against what was done, in both directions."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.permissions import Permission, granted, ungranted, unused, used, wildcards

OPERATOR = "roadstead:operator"
ROLE = {
    "kind": "Role",
    "metadata": {"name": "r", "namespace": "roadstead"},
    "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]}],
}
CLUSTER_ROLE = {
    "kind": "ClusterRole",
    "metadata": {"name": "c"},
    "rules": [{"apiGroups": ["*"], "resources": ["nodes"], "verbs": ["get"]}],
}


def _binding(kind: str, name: str, namespace: str | None) -> dict[str, Any]:
    return {
        "metadata": {"name": "b"} | ({"namespace": namespace} if namespace else {}),
        "roleRef": {"kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": "roadstead", "name": "operator"}],
    }


def _event(verb: str, *, namespace: str = "roadstead", code: int = 200, resource: str = "pods", **about: str) -> str:
    return json.dumps(
        {
            "stage": "ResponseComplete",
            "user": {"username": f"system:serviceaccount:{OPERATOR}"},
            "verb": verb,
            "objectRef": {"resource": resource, "namespace": namespace, **about},
            "responseStatus": {"code": code},
        }
    )


GRANTS = granted([ROLE], [_binding("Role", "r", "roadstead")], accounts=[OPERATOR])


def _permission(verb: str, namespace: str = "roadstead") -> Permission:
    return Permission(account=OPERATOR, group="", resource="pods", verb=verb, namespace=namespace)


def test_a_grant_that_nobody_used_is_named() -> None:
    done, refused = used([_event("list")], accounts=[OPERATOR])
    assert unused(GRANTS, done) == (_permission("delete"),)
    assert refused == ()


def test_an_act_in_another_namespace_is_not_covered_by_a_role() -> None:
    done, _ = used([_event("list", namespace="team-a")], accounts=[OPERATOR])
    assert ungranted(GRANTS, done) == (_permission("list", "team-a"),)


def test_a_refusal_is_told_and_does_not_count_as_done() -> None:
    done, refused = used([_event("create", code=403)], accounts=[OPERATOR])
    assert (done, refused) == (frozenset(), ("roadstead:operator: create pods in roadstead",))


def test_a_subresource_is_a_resource_of_its_own() -> None:
    done, _ = used([_event("patch", resource="deployments", apiGroup="apps", subresource="scale")], accounts=[OPERATOR])
    assert {str(act) for act in done} == {"roadstead:operator: patch deployments/scale.apps in roadstead"}


def test_a_cluster_role_counts_everywhere_and_its_wildcard_is_seen() -> None:
    grants = granted([CLUSTER_ROLE], [_binding("ClusterRole", "c", None)], accounts=[OPERATOR])
    assert [grant.namespace for grant in grants] == ["*"]
    assert len(wildcards(grants)) == 1


def test_a_cluster_role_bound_in_a_namespace_counts_only_there() -> None:
    grants = granted([CLUSTER_ROLE], [_binding("ClusterRole", "c", "team-a")], accounts=[OPERATOR])
    assert [grant.namespace for grant in grants] == ["team-a"]


def test_other_accounts_do_not_count() -> None:
    assert granted([ROLE], [_binding("Role", "r", "roadstead")], accounts=["x:y"]) == frozenset()
    assert used([_event("list")], accounts=["x:y"]) == (frozenset(), ())
