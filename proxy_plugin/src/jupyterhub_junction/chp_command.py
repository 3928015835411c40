"""``configurable-http-proxy``: a replica under the name and by the command line of CHP.

So the proxy pod of Zero to JupyterHub becomes a replica by another image: its command, TLS files,
probes and signals stay.  Where etcd is comes from the environment (:mod:`.etcd.environment`).

A probe of ``/_chp_healthz`` on the port of users gets 200 from the moment on at which a complete
table is served, and keeps getting it while etcd is away.  Before that it gets no 200, or no
answer: so the pod gets no users.  What asks there for liveness may end a replica that has waited
for its first table for as long as the probe allows; it has no table that could be lost by that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .cli import run
from .commands.chp_flags import FlagRefused, translate
from .commands.replica import REFUSED
from .etcd import environment

__all__ = ["main"]

_PROGRAM = "configurable-http-proxy"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if {"--version", "-V"} & set(words):
        print(f"junction {__version__}")
        return 0
    try:
        asked = translate(words, is_set=lambda name: bool(os.environ.get(name)))
        if not os.environ.get(environment.ETCD):
            raise FlagRefused(
                f"the environment has no {environment.ETCD}: {environment.mend('agent')}"
            )
        has_key = any(word.startswith("--ssl-key=") for word in asked.arguments)
        if has_key and os.environ.get("CONFIGPROXY_SSL_KEY_PASSPHRASE"):
            raise FlagRefused("CONFIGPROXY_SSL_KEY_PASSPHRASE: give a key without a passphrase")
        if asked.pid_file:
            Path(asked.pid_file).write_text(str(os.getpid()))
    except (FlagRefused, OSError) as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return REFUSED

    def begin(log: logging.Logger) -> None:
        for reason, names in asked.without_effect.items():
            log.info("no effect here: %s (%s)", ", ".join(names), reason)

    try:
        return run(["replica", *asked.arguments], program=_PROGRAM, begin=begin)
    finally:
        if asked.pid_file:
            with contextlib.suppress(OSError):
                Path(asked.pid_file).unlink()


if __name__ == "__main__":
    sys.exit(main())
