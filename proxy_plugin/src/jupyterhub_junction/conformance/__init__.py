"""The common test suite: what JupyterHub, its users and their browsers expect of a proxy.

It takes any JupyterHub ``Proxy`` class, with a declaration of what it supports, and reports
implementation × behaviour as a table::

    pytest -p jupyterhub_junction.conformance.plugin \\
        --conformance-implementations my_module:IMPLEMENTATIONS --conformance-report DIR

A *behaviour* (:mod:`.behaviours`) is data: a name, one sentence, the features it needs, the
options of the proxy it runs against, and a body that gets a :class:`.world.World`.  An
*implementation* (:mod:`.implementation`) is data too: a name, the features it claims, its
known differences with their reasons, and how to start it.
"""
