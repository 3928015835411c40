"""The TLS side of a client: a context from PEM files, renewed when the files are."""

from __future__ import annotations

import logging
import os
import ssl

from .store import StoreRefused

__all__ = ["TlsFiles"]

_log = logging.getLogger(__name__)


class TlsFiles:
    """The TLS context of the files given, made anew when a file changes (a renewed certificate)."""

    def __init__(self, ca: str | None, cert: str | None, key: str | None) -> None:
        if (cert is None) != (key is None):
            raise StoreRefused("etcd's client certificate and key go together: one is missing")
        self.ca, self._cert, self._key = ca, cert, key
        self.has_cert = cert is not None
        self._files = [name for name in (ca, cert, key) if name is not None]
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
            context = ssl.create_default_context(cafile=self.ca)
            if self._cert is not None:
                context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError, ValueError) as error:
            # While certificate and key are being replaced they may not fit for a moment.
            if self._context is not None:
                _log.warning("etcd's new TLS files cannot be used yet: %s", error)
                return self._context
            files = ", ".join(self._files)
            raise StoreRefused(
                f"the TLS files for etcd ({files}) cannot be used: {error}"
            ) from None
        self._stamp, self._context = stamp, context
        return context
