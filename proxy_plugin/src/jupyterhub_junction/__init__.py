"""Junction: the highly available proxy of JupyterHub.

routes, keys, store     what a route is, what of it stands in etcd, and what keeps that
proxies                 the Proxy classes that JupyterHub loads, and how they write the table
agent                   one replica: follows the table, keeps its Traefik at it, says what it has
traefik                 Traefik: the documents that make it route, and the process that it is
forwarder               the reverse proxy in Python, behind Traefik and in the hub's process
etcd                    the store's client of etcd
etcd_member             the upkeep of an etcd member, beside it
cli, chp_command        the commands ``junction`` and ``configurable-http-proxy``
commands                what they run
migrate                 the move from configurable-http-proxy and back
conformance             the common test suite of JupyterHub's proxies, a pytest plugin

Imports go one way only: ``traefik``, ``forwarder`` and ``etcd`` know none of the others,
``etcd_member`` only its client; ``agent``, ``proxies``, ``migrate`` and ``commands`` stand on them.
"""

__version__ = "0.1.0"
