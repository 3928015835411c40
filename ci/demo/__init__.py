"""Junction on one machine: three etcd members, two replicas, a real JupyterHub.

``make demo`` runs it with a live table; the browser test drives the same :class:`.Demo`.

programs.py     start a program, see that it answers, end it with all it started
launcher.py     what runs, in which order, with which settings
table.py        what etcd knows about the replicas, and how it is shown
"""

from .launcher import Demo, Replica
from .programs import DemoError

__all__ = ["Demo", "DemoError", "Replica"]
