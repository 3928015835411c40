"""The files of JupyterHub's internal SSL."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from jupyterhub_junction.proxies.internal_ssl import InternalFiles, internal_files

FILES = {
    "internal_trust_bundles": {"proxy-client-ca": Path("/ssl/ca.crt"), "hub-ca": "/ssl/no"},
    "internal_proxy_certs": {
        "proxy-client": {"certfile": "/ssl/proxy.crt", "keyfile": "/ssl/proxy.key", "cafile": "no"},
        "proxy-api": {"certfile": "/ssl/no", "keyfile": "/ssl/no", "cafile": "/ssl/no"},
    },
}


def test_the_files_are_those_that_the_hub_made_for_its_proxy() -> None:
    app = SimpleNamespace(internal_ssl=True, **FILES)
    assert internal_files(app) == InternalFiles("/ssl/ca.crt", "/ssl/proxy.crt", "/ssl/proxy.key")


def test_there_are_none_without_internal_ssl() -> None:
    assert internal_files(SimpleNamespace(internal_ssl=False, **FILES)) is None
    assert internal_files(SimpleNamespace()) is None
