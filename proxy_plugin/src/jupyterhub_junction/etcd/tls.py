"""The TLS side of a client: a context from PEM files, renewed when the files are.

Connections that stand stay as they are: each was good when it was made.  New ones use what is in
the files; while that cannot be used, they use what was there before.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from ..certificate_pair import judge_pair
from ..store import StoreRefused

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
        self.ca, self.cert = (f and _named([f]) for f in (self._ca, self._cert))
        self._files = [name for name in (self._ca, self._cert, self._key) if name is not None]
        self._stamp: list[tuple[int, int, int]] | None = None
        self._context: ssl.SSLContext | None = None
        self._problem = ""
        self._expires: datetime | None = None

    @property
    def trouble(self) -> str:
        """What is wrong with the files, and the mend; empty if nothing is."""
        if self._problem:
            return self._problem
        if self._expires is not None and self._expires < datetime.now(UTC):
            return (
                f"the certificate for etcd {self.cert} expired on"
                f" {self._expires:%Y-%m-%d %H:%M} UTC: renew it"
            )
        return ""

    def _what(self, error: Exception) -> str:
        """OpenSSL's words name no file."""
        if not isinstance(error, ssl.SSLError):
            return f"{getattr(error, 'filename', None) or ''}: {getattr(error, 'strerror', error)}"
        if self._cert is not None and self._key is not None:
            names = [_named([file]) for file in (self._cert, self._key)]
            try:
                texts = [Path(file).read_text() for file in (self._cert, self._key)]
            except (OSError, ValueError) as other:
                return str(other)
            wrong, _ = judge_pair(texts[0], texts[1], names[0], names[1])
            if wrong:
                return wrong
        return f"{self.ca or self.cert} holds no PEM certificates"

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
                self._problem = ""
                return self._context
            context = ssl.create_default_context(cafile=self._ca)
            if self._cert is not None:
                context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError, ValueError) as error:
            files = _named(self._files)
            problem = f"the TLS files for etcd ({files}) cannot be used: {self._what(error)}"
            # While certificate and key are being replaced they may not fit for a moment.
            if self._context is None:
                raise StoreRefused(problem) from None
            if problem != self._problem:
                _log.warning("%s: put them right; the earlier ones stay in use", problem)
            self._problem = problem
            return self._context
        if self._context is not None:
            _log.info("new connections to etcd use the TLS files as they are now")
        self._stamp, self._context, self._problem = stamp, context, ""
        self._expires = _expires(self._cert)
        if self.trouble:
            _log.warning("%s", self.trouble)
        return context


def _expires(file: str | None) -> datetime | None:
    if file is None:
        return None
    try:
        return x509.load_pem_x509_certificates(Path(file).read_bytes())[0].not_valid_after_utc
    except (OSError, ValueError, IndexError):
        return None
