"""``workloads.yaml``: read whole or refused with the file and the field, and told to the planner as digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from roadstead.adapters.kube.pods import asked_for
from roadstead.adapters.kube.workloads import Workloads, WorkloadsProblem, read_workloads

LEAST: dict[str, Any] = {
    "release": "roadstead",
    "image": "registry.example/roadstead:1",
    "tokensSecret": "roadstead-tokens",
    "serviceAccounts": {"agent": "roadstead-agent", "worker": "roadstead-worker"},
    "cells": {"cell-0": "roadstead-head-cell-0.roadstead.svc:6379"},
}


def a_file(folder: Path, content: object) -> Path:
    file = folder / "workloads.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


def read(folder: Path, **changes: object) -> Workloads:
    return read_workloads(a_file(folder, LEAST | changes))


def test_what_is_not_said_has_defaults(tmp_path: Path) -> None:
    workloads = read(tmp_path)

    assert workloads.image_pull_policy == "IfNotPresent"
    assert workloads.log_level == "info"
    assert workloads.priority_class_name is None


def test_a_quantity_may_be_a_number_as_in_a_pod(tmp_path: Path) -> None:
    workloads = read(tmp_path, agent={"resources": {"requests": {"cpu": 1, "memory": "64Mi"}}})

    assert workloads.agent.resources.requests == {"cpu": "1", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (LEAST | {"tokenSecret": "x"}, "tokenSecret is not a field of workloads.yaml"),
        ({key: value for key, value in LEAST.items() if key != "image"}, "image is required"),
        (LEAST | {"cells": {"cell-0": "head"}}, "cells.cell-0 must be host:port"),
        (LEAST | {"cells": {}}, "cells Dictionary should have at least 1 item"),
        (LEAST | {"imagePullPolicy": "Sometimes"}, "imagePullPolicy Input should be 'Always', 'IfNotPresent' or"),
        (LEAST | {"imagePullSecrets": ["A b"]}, "imagePullSecrets[0] must consist of lower-case letters"),
        ("a: [", "is not YAML"),
        ("", "the file is not a mapping"),
        ("- 1", "the file is not a mapping"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_field(tmp_path: Path, content: object, sentence: str) -> None:
    file = a_file(tmp_path, content)

    with pytest.raises(WorkloadsProblem) as refused:
        read_workloads(file)

    assert str(file) in str(refused.value)
    assert sentence in str(refused.value)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(WorkloadsProblem, match="cannot be read"):
        read_workloads(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("change", "agents", "workers"),
    [
        ({"logLevel": "debug"}, True, False),
        ({"httpHosts": ["models.lan"]}, True, False),
        ({"agent": {"resources": {"limits": {"memory": "1Gi"}}}}, True, False),
        ({"cells": LEAST["cells"] | {"cell-1": "other:6379"}}, False, False),
        ({"tokensSecret": "others"}, True, True),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_only_what_a_worker_cannot_go_on_without_makes_it_another(
    tmp_path: Path, change: dict[str, Any], *, agents: bool, workers: bool
) -> None:
    """A worker that is replaced costs each of its slots a move; an agent costs nothing."""
    before, after = asked_for(read(tmp_path)), asked_for(read(tmp_path, **change))

    assert (before.agent_digest != after.agent_digest) is agents
    assert (before.worker_digest != after.worker_digest) is workers
