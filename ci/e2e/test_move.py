"""A running z2jh moves from CHP to Junction and back, under a load that counts what users notice.

The tests share one release, and go in the order in which an admin would: each begins where the one
before has left it, and makes what it needs if that one did not run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cluster
import pytest

from e2e.load import Failed, Load
from e2e.move import Z2jh
from e2e.site import REPLICAS, new_namespace
from jupyterhub_junction.migrate.command import rendered
from jupyterhub_junction.migrate.presets import Names, preset

REPLICA_IMAGE = "quay.io/jupyterhub-junction/replica:"
CHP_IMAGE = "quay.io/jupyterhub/configurable-http-proxy:"
#: seconds before and after the end of CHP's pod: until every node has taken it out of the Service
BEFORE, AFTER = 2.0, 20.0


@pytest.fixture(scope="module")
def z2jh(access: cluster.Access) -> Iterator[Z2jh]:
    """z2jh with CHP and running servers, in a namespace that enforces the restricted standard."""
    with new_namespace(access.kubeconfig) as kube:
        made = Z2jh(kube)
        made.install()
        yield made


def test_what_cannot_work_is_refused_and_users_are_served(z2jh: Z2jh, tmp_path: Path) -> None:
    before = z2jh.proxy().metadata.uid
    with z2jh.load() as load:
        said = z2jh.step("takeover", wait=0, check=False)
        assert "Secret junction-etcd-access is not in namespace" in said
        said = z2jh.step("prepare", "rollback", wait=0, check=False)
        assert "junction-give-one-preset-at-a-time" in said
        z2jh.install_junction()
        said = z2jh.step("takeover", wait=0, check=False)
        assert "no replica of Deployment junction-replica is ready" in said
        with_another_release_name(z2jh, tmp_path)
        load.more(100)
    assert not load.counted.failed, load.counted
    assert not load.counted.closed, load.counted
    assert z2jh.proxy().metadata.uid == before


def with_another_release_name(z2jh: Z2jh, folder: Path) -> None:
    """Presets for a release of Junction that is not there: the hub says so, CHP serves on."""
    names = Names.of_release("other")
    for name in ("prepare", "takeover"):
        (folder / f"{name}.yaml").write_text(rendered(name, preset(name, names)))
    said = z2jh.step("takeover", presets=folder, wait=0, check=False)
    assert "Secret other-junction-etcd-access is not in namespace" in said
    z2jh.step("prepare", presets=folder)
    z2jh.kube.logged("deployment/hub", "holds no route up: JUNCTION_ETCD is not set")


def test_the_move_and_the_way_back_fail_no_request(z2jh: Z2jh) -> None:
    own = z2jh.own_loss
    assert own.failed, "CHP's own restart is what the move is compared with"
    servers, chp = z2jh.servers(), z2jh.proxy().metadata.uid
    with z2jh.load() as load:
        z2jh.prepare()
        load.more(100)
        print(f"prepare: {load.counted}")
        nothing_noticed(load)
        assert z2jh.proxy().metadata.uid == chp, "CHP's pod has to stay"

        ends = [take_over(z2jh, load)]
        assert z2jh.image().startswith(REPLICA_IMAGE)

        z2jh.step("rollback")
        assert z2jh.image().startswith(CHP_IMAGE)
        load.more(200)

        # of new WebSockets some come to CHP
        with z2jh.load(rate=10) as later:
            ends.append(take_over(z2jh, later))
        assert z2jh.image().startswith(REPLICA_IMAGE)
        load.more(200)
    # only now: what hung is counted when it has ended, and belongs to when it began
    for one in (load, later):
        print(f"the move: {one.counted}")
    failed, refused = (load.counted.failed + later.counted.failed), load.counted.refused
    for end in ends:
        lost = [one for one in failed if is_at(end, one)]
        said = [f"{one.began - end:.1f} {one.said}" for one in lost]
        print(f"{len(lost)} lost as CHP's pod ended (z2jh's own: {len(own.failed)}): {said}")
        assert len(lost) <= len(own.failed)
    elsewhere = [
        one
        for one in [*failed, *refused, *later.counted.refused]
        if not any(is_at(end, one) for end in ends)
    ]
    assert not elsewhere, f"CHP ended at {ends}: {elsewhere[:5]}"
    answered = [one for one in failed if one.said.startswith(("status", "another"))]
    assert not answered, f"no answer may be wrong: {answered[:5]}"
    assert z2jh.servers() == servers
    assert z2jh.kube.ready(REPLICAS, 2)


def is_at(end: float, one: Failed) -> bool:
    """Whether a request began in the instant in which CHP's pod ended."""
    return end - BEFORE < one.began < end + AFTER


def nothing_noticed(load: Load) -> None:
    assert not load.counted.failed, load.counted
    assert not load.counted.refused, load.counted
    assert not load.counted.closed, load.counted


def take_over(z2jh: Z2jh, load: Load) -> float:
    """CHP's pod becomes a replica; returns when it ended, by its WebSockets, which end with it."""
    began = time.monotonic()
    z2jh.step("takeover")
    load.reopened()
    load.more(100)
    print(f"takeover: {load.counted}")
    closed = [one.at for one in load.counted.closed if one.at > began]
    assert closed, "the WebSockets through CHP end with its pod"
    end = min(closed)
    assert max(closed) < end + BEFORE, "they end all at once"
    return end
