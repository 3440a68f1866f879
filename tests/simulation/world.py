"""The whole world of one installation, normalised: what two runs that went differently must agree on.

Times, versions, uids, addresses, epochs and what history closed are left out; the namespace is written ``NS``.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from roadstead.adapters.postgres.schema import IncarnationRow, ModelRow, PlacementRow, ReleaseRow
from tests.simulation.scenario import Stage

World = dict[str, Any]


async def world_of(stage: Stage, ledger: Engine, *, installation: str) -> World:
    """Kubernetes, the cells, the nodes and the ledger."""
    model = await stage.model()
    told = {
        "model": None if model is None else _model(model),
        "routes": [_route(route) for route in await stage.routes()],
        "revisions": sorted((each["metadata"]["name"], each["revision"]) for each in await stage.revisions()),
        "fleet": stage.fleet.normalised(),
        "ledger": _ledger(ledger, installation),
    }
    named: World = json.loads(json.dumps(told).replace(stage.namespace, "NS"))
    return named


def differences(wanted: object, found: object, where: str = "") -> list[str]:
    """Where two worlds differ, a line each."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            line
            for key in sorted(wanted.keys() | found.keys())
            for line in differences(wanted.get(key), found.get(key), f"{where}.{key}")
        ]
    return [] if wanted == found else [f"{where.lstrip('.')}: wanted {wanted!r}, found {found!r}"]


def _model(model: dict[str, Any]) -> dict[str, Any]:
    status = model.get("status", {})
    return {
        "spec": model["spec"],
        "finalizers": model["metadata"].get("finalizers", []),
        "deleting": "deletionTimestamp" in model["metadata"],
        "observedGeneration": status.get("observedGeneration"),
        "release": status.get("release"),
        "replicas": (status.get("replicas"), status.get("readyReplicas")),
        "slots": [{key: row[key] for key in ("name", "state", "ready", "weight")} for row in status.get("slots", ())],
        "conditions": {
            row["type"]: (row["status"], row["reason"], row["message"]) for row in status.get("conditions", ())
        },
    }


def _route(route: dict[str, Any]) -> dict[str, Any]:
    slots = [
        {
            "name": slot["name"],
            "addresses": len(slot["addresses"]),
            "weight": slot["weight"],
            "state": slot.get("state"),
        }
        for slot in route["spec"].get("slots", ())
    ]
    return {"name": route["metadata"]["name"], "names": route["spec"]["names"], "slots": slots}


def _ledger(engine: Engine, installation: str) -> dict[str, Any]:
    """Lineages, releases, and rows that are open."""
    of_ours = ModelRow.installation == installation
    with Session(engine) as session:
        releases = session.execute(
            select(ModelRow.name, ReleaseRow.number, ReleaseRow.generation)
            .join(ReleaseRow, ReleaseRow.model_id == ModelRow.id)
            .where(of_ours)
            .order_by(ReleaseRow.number)
        )
        incarnations = session.execute(
            select(ModelRow.name)
            .join(IncarnationRow, IncarnationRow.model_id == ModelRow.id)
            .where(of_ours, IncarnationRow.ended.is_(None))
        )
        placements = session.execute(
            select(PlacementRow.slot, PlacementRow.replicas, PlacementRow.node)
            .join(ModelRow, PlacementRow.model_id == ModelRow.id)
            .where(of_ours, PlacementRow.ended.is_(None))
            .order_by(PlacementRow.slot)
        )
        return {
            "releases": [list(row) for row in releases],
            "incarnations": [list(row) for row in incarnations],
            "placements": [list(row) for row in placements],
        }
