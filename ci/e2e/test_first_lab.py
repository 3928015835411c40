"""How long a first install takes, and what an upgrade of Zero to JupyterHub costs: measured with
CHP and with Junction, in turn, on one cluster.

    ci/run_e2e -s -k test_first_lab

It runs only when it is asked for, as it says nothing on a machine that does something else.
"""

from __future__ import annotations

import time
from pathlib import Path

import cluster
import pytest

from e2e.figures import note
from e2e.kube import Kube, until
from e2e.load import Counted, Load
from e2e.move import PEOPLE, RESTART, Z2jh
from e2e.person import Person
from e2e.site import MEMBERS, REPLICAS, TOKEN, merged, new_namespace
from e2e.ways import Release, umbrella

ROUNDS = 2
USER = PEOPLE[0]


class WithChp(Z2jh):
    """z2jh's chart alone."""

    def helm(self, action: str, *, wait: int = 240) -> None:
        self.kube.helm(action, "hub", self.chart, values=self.values, wait=wait)

    def change(self) -> None:
        self.values = merged(self.values, RESTART)


class WithJunction(Release):
    """The umbrella chart as it is by default, but for what it asks of nodes."""

    def change(self) -> None:
        self.set(RESTART, {})


def with_chp(kube: Kube, folder: Path) -> WithChp:
    made = WithChp(kube)
    allowed = {"hub": {"config": {"Authenticator": {"allow_all": True}}}}
    made.values = merged(made.values, allowed)
    return made


def with_junction(kube: Kube, folder: Path) -> WithJunction:
    return WithJunction(kube, umbrella(folder), {}, {})


@pytest.mark.measured
def test_first_lab_and_an_upgrade(access: cluster.Access, tmp_path: Path) -> None:
    for number in range(ROUNDS):
        for make in (with_chp, with_junction):
            folder = tmp_path / f"{number}-{make.__name__}"
            folder.mkdir()
            with new_namespace(access.kubeconfig) as kube:
                release = make(kube, folder)
                took, hub = first_lab(release)
                said = f"round {number + 1}, {make.__name__}"
                note(said, f"first lab {took:.1f} s after helm install, hub after {hub:.1f} s")
                counted = upgrade(release)
                note(said, f"z2jh's own upgrade: {counted}")
                if make is with_junction:
                    assert not counted.failed, counted


def first_lab(release: WithChp | WithJunction) -> tuple[float, float]:
    """Seconds from ``helm install`` to a user's JupyterLab, and to the hub's first answer."""
    began = time.monotonic()
    release.helm("install", wait=0)
    release.url = release.kube.node_port("proxy-public")
    until(release.hub.answers, "the hub through the proxy", 300)
    hub = time.monotonic() - began
    person = Person(release.url, USER)
    person.sign_in()
    release.hub.start_server(USER)
    _, page = person.fetch(f"/user/{USER}/lab")
    assert "jupyter-config-data" in page
    return time.monotonic() - began, hub


def upgrade(release: WithChp | WithJunction) -> Counted:
    """What users lose by an upgrade that restarts the hub and z2jh's proxy."""
    if isinstance(release, WithJunction):
        release.kube.ready(REPLICAS, 2)
        release.kube.ready(MEMBERS, 3)
    for user in PEOPLE:
        release.hub.start_server(user)
    release.change()
    with Load(release.url, PEOPLE, TOKEN, rate=50, websockets=20) as load:
        release.helm("upgrade")
        until(release.hub.answers, "the hub through the proxy", 120)
        until(lambda: release.hub.has_routes(PEOPLE), "all routes", 120)
        load.reopened()
        load.more(200)
    return load.counted
