"""One run, side by side on one machine and the same work: Junction, its peers and the limits.

    make bench            every size and every proxy
    make bench-quick      up to 1,000 routes, in under ten minutes

The way of a run: :mod:`.options` says what is to be done, :mod:`.runner` starts each of
:mod:`.contestants` at each size, :mod:`.measures` holds what is measured on it, :mod:`.results`
what comes of it, and :mod:`.report` what is written: JSON, a table and plots.

Each proxy class runs in a process of its own (:mod:`.hubside`), as it does in JupyterHub's, so
that its time and memory are its own; what is probed is probed from the bench's process.
"""
