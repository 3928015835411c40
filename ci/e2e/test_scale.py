"""A new replica of a table with thousands of routes."""

from __future__ import annotations

from e2e.figures import note
from e2e.kube import until
from e2e.site import REPLICAS, Site

ROUTES = 5_000

#: the hub's own extra routes, as many as there are users' servers elsewhere
EXTRA = f"""
c.Proxy.extra_routes = {{f"/extra/{{number}}/": "http://hub:8081" for number in range({ROUTES})}}
"""


def test_a_new_replica_with_thousands_of_routes_never_answers_without_them(site: Site) -> None:
    site.upgrade_hub({"hub": {"extraConfig": {"extra": EXTRA}}})
    until(lambda: site.knows(ROUTES), "all routes", 180)
    with site.load(rate=80) as load:
        began = load.event("asking for a third")
        site.kube.kubectl("scale", "deployment", "junction-replica", "--replicas=3")
        site.kube.ready(REPLICAS, 3, 60)
        took = load.event("the third was ready") - began
        load.more(1000)
        load.event("asking for two")
        # one that was there goes, so that the new one takes its part
        site.kube.kubectl("scale", "deployment", "junction-replica", "--replicas=2")
        load.more(2000)
    assert not load.counted.failed, load.counted
    note(f"a new replica with {ROUTES} routes", f"ready after {took:.1f} s; {load.counted}")
    site.upgrade_hub()
