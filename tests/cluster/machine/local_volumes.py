"""Makes volumes for claims on one node's own disk: `python -m tests.cluster.machine.local_volumes NODE KUBECONFIG`.

A claim of the storage class `local-disk` waits for its first pod; the scheduler picks a node and writes it on the
claim, and that node makes a folder and a PersistentVolume that is bound to the node. A released volume is deleted with
its folder when its reclaim policy says so, as the class does.
"""

from __future__ import annotations

import http.client
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.cluster.machine.machinery_api import Changes, MachineryApi, Object, Refused

STORAGE_CLASS = "local-disk"
PROVISIONER = "roadstead.test/local-disk"
_FOLDER = Path("/var/lib/local-volumes")
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_CONFLICT = 409


def main() -> None:
    node, kubeconfig = sys.argv[1], Path(sys.argv[2])
    api = MachineryApi(kubeconfig)
    changes = Changes(api, _CLAIMS, _VOLUMES)
    while True:
        changes.wait(at_most_seconds=30)
        try:
            for claim in api.items(_CLAIMS):
                if _waits_for(claim, node):
                    _provide(api, volume_for(claim, node))
            for volume in api.items(_VOLUMES):
                if _is_done(volume, node):
                    _delete(api, volume)
        except (OSError, http.client.HTTPException, Refused) as error:
            print(f"not done: {error}", flush=True)  # noqa: T201 - its log


def volume_for(claim: Object, node: str) -> Object:
    """The PersistentVolume that this claim on this node gets."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{metadata['uid']}"
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                **{key: metadata[key] for key in ("name", "namespace", "uid")},
            },
            "local": {"path": str(_FOLDER / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
            "volumeMode": "Filesystem",
        },
    }


def _waits_for(claim: Object, node: str) -> bool:
    spec, annotations = claim["spec"], claim["metadata"].get("annotations", {})
    return (
        spec.get("storageClassName") == STORAGE_CLASS
        and not spec.get("volumeName")
        and annotations.get(_SELECTED_NODE) == node
    )


def _is_done(volume: Object, node: str) -> bool:
    spec: Any = volume["spec"]
    if spec.get("storageClassName") != STORAGE_CLASS or spec["persistentVolumeReclaimPolicy"] != "Delete":
        return False
    terms = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
    nodes: list[str] = terms[0]["matchExpressions"][0]["values"]
    phase: str = volume["status"].get("phase", "")
    return phase == "Released" and nodes == [node]


def _provide(api: MachineryApi, volume: Object) -> None:
    # Root's, as a fresh disk is: a pod that may not be root gets it by `fsGroup`.
    Path(volume["spec"]["local"]["path"]).mkdir(parents=True, exist_ok=True)
    try:
        api.request("POST", _VOLUMES, volume)
    except Refused as refused:
        if refused.status != _CONFLICT:
            raise


def _delete(api: MachineryApi, volume: Object) -> None:
    shutil.rmtree(volume["spec"]["local"]["path"], ignore_errors=True)
    api.request("DELETE", f"{_VOLUMES}/{volume['metadata']['name']}")


if __name__ == "__main__":
    main()
