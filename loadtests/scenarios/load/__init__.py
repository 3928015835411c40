"""The load generator: Locust in a process of its own (``python -m scenarios.load``).

Locust replaces the standard library's sockets with gevent's as soon as it is imported, so nothing
that runs on asyncio, and no test, imports what is in here.  The runner starts the process, writes
the setup as one JSON line to its stdin, and reads one JSON line a second from its stdout; see
:mod:`.__main__`.
"""
