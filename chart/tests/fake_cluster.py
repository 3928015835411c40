"""As much of a Kubernetes API as ``lookup`` in a chart asks for: Secrets, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rendering import NAMESPACE, Object, parse, template

SECRETS = {"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["get"]}


class Cluster:
    """Has the Secrets of the last :meth:`install`, as a release would.

    Attributes:
        secrets: by name.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.secrets: dict[str, Object] = {}
        self.kubeconfig = kubeconfig

    def answer(self, path: str) -> Object:
        if path.partition("?")[0] == "/api/v1":
            return {"kind": "APIResourceList", "groupVersion": "v1", "resources": [SECRETS]}
        missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
        folder, _, name = path.rpartition("/")
        if folder != f"/api/v1/namespaces/{NAMESPACE}/secrets":
            return missing
        return self.secrets.get(name, missing)

    def install(self, values: Object) -> dict[str, Object]:
        """Install or upgrade; returns the objects."""
        text = template(
            json.dumps(values),
            "--dry-run=server",
            "--kube-version=1.34.0",
            f"--kubeconfig={self.kubeconfig}",
        )
        objects = parse(text)
        made = {one["metadata"]["name"]: one for one in objects.values() if one["kind"] == "Secret"}
        self.secrets = made
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
