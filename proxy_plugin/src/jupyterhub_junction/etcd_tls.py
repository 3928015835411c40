"""The TLS side of a client: a context from PEM files, renewed when the files are."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Sequence

from .store import StoreRefused

__all__ = ["TlsFiles"]

_log = logging.getLogger(__name__)


def _as_file(given: str) -> str:
    """The path of a file; for PEM text, of one in memory that is this process's alone."""
    if not given.lstrip().startswith("-----BEGIN"):
        return given
    if not hasattr(os, "memfd_create"):
        raise StoreRefused("PEM text for etcd's TLS needs Linux: write it to a file, and name that")
    descriptor = os.memfd_create("junction-pem")  # kept for as long as the process lives
    with open(descriptor, "w", closefd=False) as file:
        file.write(given)
    return f"/proc/self/fd/{descriptor}"


def _named(files: Sequence[str]) -> str:
    return ", ".join("PEM text" if f.startswith("/proc/self/fd/") else f for f in files)


class TlsFiles:
    """The TLS context of the files given, made anew when a file changes (a renewed certificate).

    Each is a path, or PEM text itself.
    """

    def __init__(self, ca: str | None, cert: str | None, key: str | None) -> None:
        if (cert is None) != (key is None):
            raise StoreRefused("etcd's client certificate and key go together: one is missing")
        self._ca, self._cert, self._key = (f and _as_file(f) for f in (ca, cert, key))
        #: for messages
        self.ca = self._ca and _named([self._ca])
        self.has_cert = cert is not None
        self._files = [name for name in (self._ca, self._cert, self._key) if name is not None]
        self._stamp: list[tuple[int, int, int]] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The context for the files as they are now.

        Raises:
            StoreRefused: they cannot be used, and never could.
        """
        try:
            stamp = [
                (s.st_mtime_ns, s.st_size, s.st_ino) for s in (os.stat(f) for f in self._files)
            ]
            if self._context is not None and stamp == self._stamp:
                return self._context
            context = ssl.create_default_context(cafile=self._ca)
            if self._cert is not None:
                context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError, ValueError) as error:
            # While certificate and key are being replaced they may not fit for a moment.
            if self._context is not None:
                _log.warning("etcd's new TLS files cannot be used yet: %s", error)
                return self._context
            files = _named(self._files)
            raise StoreRefused(
                f"the TLS files for etcd ({files}) cannot be used: {error}"
            ) from None
        self._stamp, self._context = stamp, context
        return context
