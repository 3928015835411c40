"""Junction: the highly available proxy of JupyterHub.

routes, keys, store     what a route is, what of it stands in etcd, and what keeps that
changed, files, ports,  what several of the others need
probes, certificate_pair
traefik                 Traefik: the documents that make it route, and the process that it is
forwarder               the reverse proxy in Python, behind Traefik and in the hub's process
etcd                    the store's client of etcd
etcd_member             the upkeep of an etcd member, beside it
agent                   one replica: follows the table, keeps its Traefik at it, says what it has
proxies                 the Proxy classes that JupyterHub loads, and how they write the table
commands                a replica, its agent alone, a check, and what CHP's flags become
migrate                 the move from configurable-http-proxy and back
cli, chp_command        the commands ``junction`` and ``configurable-http-proxy``
conformance             the common test suite of JupyterHub's proxies, a pytest plugin

Each may import what stands above it in this list, and nothing below.
"""

__version__ = "0.1.0"
