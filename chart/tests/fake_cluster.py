"""As much of a Kubernetes API as ``lookup`` in a chart asks for, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rendering import NAMESPACE, Object, parse, template

#: what is looked up, by group, version and kind
KINDS = {
    ("api/v1", "Secret"): "secrets",
    ("apis/apps/v1", "StatefulSet"): "statefulsets",
    ("apis/apps/v1", "Deployment"): "deployments",
}


class Cluster:
    """Has what was made by the last :meth:`install`, as a release would.

    Attributes:
        secrets: by name.
        sets: the StatefulSets, by name.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.secrets: dict[str, Object] = {}
        self.sets: dict[str, Object] = {}
        self.kubeconfig = kubeconfig

    def answer(self, path: str) -> Object:
        group = path.partition("?")[0].strip("/")
        resources = [
            {"name": plural, "kind": kind, "namespaced": True, "verbs": ["get"]}
            for (place, kind), plural in KINDS.items()
            if place == group
        ]
        if resources:
            version = group.partition("/")[2]
            return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
        folder, _, name = path.rpartition("/")
        for folders, there in (
            (f"/api/v1/namespaces/{NAMESPACE}/secrets", self.secrets),
            (f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets", self.sets),
        ):
            if folder == folders:
                return there.get(name, missing)
        return missing

    def install(self, values: Object) -> dict[str, Object]:
        """Install or upgrade; returns the objects."""
        text = template(
            json.dumps(values),
            "--dry-run=server",
            "--kube-version=1.34.0",
            f"--kubeconfig={self.kubeconfig}",
        )
        objects = parse(text)
        self.secrets, self.sets = (
            {one["metadata"]["name"]: one for one in objects.values() if one["kind"] == kind}
            for kind in ("Secret", "StatefulSet")
        )
        return objects


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that answers until the block ends."""
    kubeconfig = folder / "kubeconfig"
    here = Cluster(kubeconfig)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            thing = here.answer(self.path)
            body = json.dumps(thing).encode()
            self.send_response(thing.get("code", 200))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    named = {"name": "here"}
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{**named, "cluster": {"server": url}}],
                "contexts": [{**named, "context": {"cluster": "here", "user": "here"}}],
                "users": [{**named, "user": {}}],
                "current-context": "here",
            }
        )
    )
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
