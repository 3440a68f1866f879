"""What our service accounts may do, what they did, and the difference: roles against the API server's audit log.

Pure: objects as ``kubectl get -o json`` prints them and lines of the audit log go in, sentences come out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Object = Mapping[str, Any]

_PREFIX: Final = "system:serviceaccount:"
_EVERYBODY: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews"})
"""What the built-in roles let everybody ask about themselves."""


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """One verb on one resource (``pods``, ``deployments/scale``) of one API group, for one service account."""

    account: str
    group: str
    resource: str
    verb: str
    namespace: str = "*"
    """``*``: in every namespace, or of a resource that has none."""

    def covers(self, used: Permission) -> bool:
        """Whether a granted permission allows what was done."""
        return (self.account, self.group, self.resource, self.verb) == (
            used.account,
            used.group,
            used.resource,
            used.verb,
        ) and self.namespace in ("*", used.namespace)

    def __str__(self) -> str:
        where = "" if self.namespace == "*" else f" in {self.namespace}"
        return f"{self.account}: {self.verb} {self.resource}{'.' + self.group if self.group else ''}{where}"


def granted(roles: Iterable[Object], bindings: Iterable[Object], *, accounts: Iterable[str]) -> frozenset[Permission]:
    """Everything that roles grant to these accounts (``namespace:name``); a wildcard stays a ``*``."""
    rules = {
        (role["kind"], role["metadata"].get("namespace", ""), role["metadata"]["name"]): role.get("rules") or ()
        for role in roles
    }
    wanted = frozenset(accounts)
    found: set[Permission] = set()
    for binding in bindings:
        own = binding["metadata"].get("namespace", "")
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        granted_rules = rules.get((kind, own if kind == "Role" else "", name), ())
        for subject in binding.get("subjects") or ():
            account = f"{subject.get('namespace', own)}:{subject['name']}"
            if subject["kind"] == "ServiceAccount" and account in wanted:
                found |= {
                    Permission(account=account, group=group, resource=resource, verb=verb, namespace=own or "*")
                    for rule in granted_rules
                    for group in rule.get("apiGroups") or ()
                    for resource in rule.get("resources") or ()
                    for verb in rule.get("verbs") or ()
                }
    return frozenset(found)


def used(lines: Iterable[str], *, accounts: Iterable[str]) -> tuple[frozenset[Permission], tuple[str, ...]]:
    """What the accounts did, and in words what they were refused (403)."""
    wanted = frozenset(accounts)
    done: set[Permission] = set()
    refused: list[str] = []
    for line in lines:
        event = json.loads(line)
        account = str(event.get("user", {}).get("username", "")).removeprefix(_PREFIX)
        about = event.get("objectRef") or {}
        if account not in wanted or not about.get("resource") or event.get("stage") == "RequestReceived":
            continue
        permission = Permission(
            account=account,
            group=about.get("apiGroup", ""),
            resource="/".join(part for part in (about["resource"], about.get("subresource")) if part),
            verb=event["verb"],
            namespace=about.get("namespace") or "*",
        )
        if event.get("responseStatus", {}).get("code") == 403:
            refused.append(str(permission))
        elif permission.resource not in _EVERYBODY:
            done.add(permission)
    return frozenset(done), tuple(sorted(set(refused)))


def unused(grants: Iterable[Permission], done: Iterable[Permission]) -> tuple[Permission, ...]:
    """Grants that nobody needed."""
    acts = tuple(done)
    return tuple(sorted(grant for grant in grants if not any(grant.covers(act) for act in acts)))


def ungranted(grants: Iterable[Permission], done: Iterable[Permission]) -> tuple[Permission, ...]:
    """Acts that no role of ours grants: somebody else's binding let them through."""
    known = tuple(grants)
    return tuple(sorted(act for act in done if not any(grant.covers(act) for grant in known)))


def wildcards(grants: Iterable[Permission]) -> tuple[Permission, ...]:
    """Grants that name everything."""
    return tuple(sorted(grant for grant in grants if "*" in (grant.group, grant.resource, grant.verb)))
