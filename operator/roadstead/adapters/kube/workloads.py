"""What the chart tells the operator about the Pods that it makes: the file ``workloads.yaml``.

The chart renders it into a ConfigMap; the operator reads it once, when it starts. Pools say what a node's Pods may use;
this file says what is the same for all of them: images, names of Secrets and ServiceAccounts, where the cells' heads
are. A field that is not known here is an error: a chart that is newer than its operator must not be half obeyed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError

from roadstead.adapters.kube.constraints import DnsName, LabelValue, OneLine, Rule, Strict

Quantities = dict[Literal["cpu", "memory", "ephemeral-storage"], OneLine]
HostAndPort = Annotated[
    str,
    Field(max_length=260),
    Rule.matching("[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?:[0-9]{1,5}", "must be host:port"),
]


class WorkloadsProblem(Exception):
    """The file cannot be used. The message names it and the field."""


class Resources(Strict):
    """Of a container, as in a Pod."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # `cpu: 1` is as good as `cpu: "1"`, as in a Pod

    requests: Quantities = Field(default_factory=dict)
    limits: Quantities = Field(default_factory=dict)


class ServiceAccounts(Strict):
    """Whom the Pods run as. Neither gets a token: they exist so that no default account's rights apply."""

    agent: DnsName
    worker: DnsName


class AgentWorkload(Strict):
    """The node agents' own needs; what engines may use is a pool's matter."""

    resources: Resources = Field(default_factory=Resources)


class Workloads(Strict):
    """The whole file."""

    release: Annotated[DnsName, Field(max_length=40)]
    """Name of the Helm release: the prefix of all names."""
    image: OneLine
    """The image ``roadstead``, which agents run."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[DnsName, ...] = ()
    tokens_secret: DnsName
    """Secret with the keys ``door.token``, ``replica.token`` and ``ray.token``."""
    service_accounts: ServiceAccounts
    cells: Annotated[dict[DnsName, HostAndPort], Field(min_length=1)]
    """By name of the cell: its Ray head's GCS."""
    priority_class_name: DnsName | None = None
    http_hosts: tuple[OneLine, ...] = ()
    """Hosts that agents may ask by plain ``http://``."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    labels: dict[str, LabelValue] = Field(default_factory=dict)
    """Further labels on everything that the operator makes."""
    agent: AgentWorkload = Field(default_factory=AgentWorkload)


def read_workloads(path: Path) -> Workloads:
    """The file's content. Raises :class:`WorkloadsProblem`."""
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadsProblem(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise WorkloadsProblem(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return Workloads.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        told = (f"{_path(problem['loc'])} {_words(problem)}" for problem in error.errors(include_url=False))
        raise WorkloadsProblem(f"{path}: {'; '.join(told)}") from None


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".") or "the file"


def _words(problem: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    match problem["type"]:
        case "extra_forbidden":
            return "is not a field of workloads.yaml"
        case "missing":
            return "is required"
        case "model_type" | "model_attributes_type":
            return "is not a mapping"
        case _:
            return str(problem["msg"])
