"""Volumes on demand: a folder of the node that the scheduler chose, as a ``local`` volume.

Runs for the life of the cluster (``python -m cluster.volumes``).  Invariants: a claim of the
storage class gets a new, empty folder, named after the claim's uid, once it has a node; a volume
whose claim has gone is deleted with its folder.  As with disks in a cloud, the folder is root's,
and a pod writes to it by its fsGroup.
"""

from __future__ import annotations

import shutil
import sys
import time

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
    volumes = {one.metadata.name: one for one in core.list_persistent_volume().items}
    nodes = {node.name: node for node in NODES}
    for claim in core.list_persistent_volume_claim_for_all_namespaces().items:
        name = f"pvc-{claim.metadata.uid}"
        chosen = (claim.metadata.annotations or {}).get(CHOSEN_NODE)
        if (
            claim.spec.storage_class_name == STORAGE_CLASS
            and claim.status.phase == "Pending"
            and not claim.spec.volume_name
            and chosen in nodes
            and name not in volumes
        ):
            path = nodes[chosen].folder / "volumes" / name
            path.mkdir(parents=True, exist_ok=True)
            core.create_persistent_volume(volume(name, claim, chosen, str(path)))
            print(f"made {name} for {claim.metadata.namespace}/{claim.metadata.name}", flush=True)
    for name, one in volumes.items():
        ours = (one.metadata.annotations or {}).get(PROVISIONED_BY) == PROVISIONER
        if ours and one.status.phase == "Released" and not one.metadata.deletion_timestamp:
            if one.spec.persistent_volume_reclaim_policy != "Delete":
                continue
            shutil.rmtree(one.spec.local.path, ignore_errors=True)
            core.delete_persistent_volume(name)
            print(f"deleted {name}", flush=True)


def volume(name: str, claim: client.V1PersistentVolumeClaim, node: str, path: str) -> object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "accessModes": claim.spec.access_modes,
            "capacity": claim.spec.resources.requests,
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Delete",
            "volumeMode": claim.spec.volume_mode,
            "local": {"path": path},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.metadata.namespace,
                "name": claim.metadata.name,
                "uid": claim.metadata.uid,
            },
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
                            ]
                        }
                    ]
                }
            },
        },
    }


def main() -> None:
    config.load_kube_config(str(folder() / "kubeconfig"))
    core = client.CoreV1Api()
    while True:
        try:
            reconcile(core)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            print(f"the API server does not answer: {error}", file=sys.stderr, flush=True)
        time.sleep(PERIOD_SECONDS)


if __name__ == "__main__":
    main()
