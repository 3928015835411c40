"""Volumes on demand: a folder of the node that the scheduler chose, as a ``local`` volume.

Runs for the life of the cluster (``python -m cluster.volumes``).  Invariants: a claim of the
storage class gets a new, empty folder, named after the claim's uid, once it has a node; a volume
whose claim has gone is deleted with its folder.  As with disks in a cloud, the folder is root's,
and a pod writes to it by its fsGroup.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from .settings import NODES, PROVISIONER, STORAGE_CLASS, folder

__all__ = ["reconcile"]

PERIOD_SECONDS = 0.5
CHOSEN_NODE = "volume.kubernetes.io/selected-node"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"


def reconcile(core: client.CoreV1Api) -> None:
    """Make the volumes that are asked for, delete those that nobody has any more."""
    volumes = {
        one["metadata"]["name"]: one
        for one in items(core.list_persistent_volume(_preload_content=False))
    }
    nodes = {node.name: node for node in NODES}
    for claim in items(
        core.list_persistent_volume_claim_for_all_namespaces(_preload_content=False)
    ):
        about, spec = claim["metadata"], claim["spec"]
        name = f"pvc-{about['uid']}"
        chosen = nodes.get(about.get("annotations", {}).get(CHOSEN_NODE))
        if (
            chosen
            and spec.get("storageClassName") == STORAGE_CLASS
            and claim["status"]["phase"] == "Pending"
            and not spec.get("volumeName")
            and name not in volumes
        ):
            path = chosen.folder / "volumes" / name
            path.mkdir(parents=True, exist_ok=True)
            core.create_persistent_volume(volume(name, claim, chosen.name, str(path)))
            print(f"made {name} for {about['namespace']}/{about['name']}", flush=True)
    for name, one in volumes.items():
        about, spec = one["metadata"], one["spec"]
        if (
            about.get("annotations", {}).get(PROVISIONED_BY) == PROVISIONER
            and one["status"]["phase"] == "Released"
            and spec["persistentVolumeReclaimPolicy"] == "Delete"
            and "deletionTimestamp" not in about
        ):
            shutil.rmtree(spec["local"]["path"], ignore_errors=True)
            core.delete_persistent_volume(name)
            print(f"deleted {name}", flush=True)


def items(answer: Any) -> list[dict[str, Any]]:
    """A list as the API server wrote it: plain, and cheaper than the client's classes."""
    found: list[dict[str, Any]] = json.loads(answer.data)["items"]
    return found


def volume(name: str, claim: dict[str, Any], node: str, path: str) -> Any:
    about, spec = claim["metadata"], claim["spec"]
    claimed = {key: about[key] for key in ("namespace", "name", "uid")}
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": spec["resources"]["requests"],
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Delete",
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "local": {"path": path},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claimed},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


def main() -> None:
    config.load_kube_config(str(folder() / "kubeconfig"))  # type: ignore[no-untyped-call]
    core = client.CoreV1Api()
    while True:
        try:
            reconcile(core)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            print(f"the API server does not answer: {error}", file=sys.stderr, flush=True)
        time.sleep(PERIOD_SECONDS)


if __name__ == "__main__":
    main()
