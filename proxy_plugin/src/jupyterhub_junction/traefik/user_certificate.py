"""The certificate that users are shown: read again when its files change.

Invariants:

* What is handed out is a certificate with its own key, as text: Traefik gets both at once, and no
  half of a renewal.
* One that cannot be used never takes the place of one that was: the earlier one stays, and the
  trouble names the file.  The last good one is kept in the runtime folder for the next agent.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from ..certificate_pair import judge_pair
from ..files import write_private

__all__ = ["UserCertificate"]


class UserCertificate:
    """A certificate and its key, in PEM files.

    Args:
        saved: where the last good pair is kept; None keeps none.

    Attributes:
        pair: certificate and key as PEM text; None before the first good one.
    """

    def __init__(self, certificate: str, key: str, saved: Path | None = None) -> None:
        self._files = (certificate, key)
        self._saved = saved
        self._stamp: object = None
        self._expires: datetime | None = None
        self._problem = ""
        self.pair: tuple[str, str] | None = None

    @property
    def trouble(self) -> str:
        """What is wrong with the files, and the mend; empty if nothing is."""
        if self._problem:
            return self._problem
        if self._expires is not None and self._expires < datetime.now(UTC):
            return (
                f"the certificate {self._files[0]} expired on {self._expires:%Y-%m-%d %H:%M} UTC:"
                " renew it"
            )
        return ""

    @property
    def expires(self) -> str:
        """When the one in use ends, as ISO 8601 in UTC; empty without one."""
        return f"{self._expires:%Y-%m-%dT%H:%M:%SZ}" if self._expires else ""

    def look(self) -> bool:
        """Read the files if they changed; whether there is another pair now."""
        try:
            stamp: object = [
                (s.st_mtime_ns, s.st_size, s.st_ino) for s in (os.stat(f) for f in self._files)
            ]
        except OSError as error:
            return self._refuse(f"{error.filename} cannot be read: {error.strerror}")
        if stamp == self._stamp:
            return False
        texts = []
        for file in self._files:
            try:
                texts.append(Path(file).read_text())
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is no PEM text"
                return self._refuse(f"{file} cannot be read: {why}")
        wrong, expires = judge_pair(texts[0], texts[1], *self._files)
        if wrong:
            return self._refuse(wrong)
        if expires < datetime.now(UTC) and self.pair is not None:
            self._stamp = stamp
            return self._refuse(f"{self._files[0]} expired on {expires:%Y-%m-%d %H:%M} UTC")
        self._stamp, self._problem = stamp, ""
        return self._take(texts[0], texts[1], expires, keep=True)

    def _refuse(self, why: str) -> bool:
        if self.pair is None and self._restore():
            self._problem = f"the users' certificate: {why}: put it right; the last one is used"
            return True
        rest = "; the earlier one is used" if self.pair else ""
        self._problem = f"the users' certificate: {why}: put it right{rest}"
        return False

    def _take(self, certificate: str, key: str, expires: datetime, *, keep: bool) -> bool:
        self._expires = expires
        if self.pair == (certificate, key):
            return False
        self.pair = (certificate, key)
        if keep and self._saved is not None:
            new = self._saved.with_name(self._saved.name + ".new")
            write_private(new, json.dumps(self.pair))
            os.replace(new, self._saved)
        return True

    def _restore(self) -> bool:
        if self._saved is None:
            return False
        try:
            certificate, key = json.loads(self._saved.read_text())
        except (OSError, ValueError, TypeError):
            return False
        wrong, expires = judge_pair(certificate, key, "", "")
        return not wrong and self._take(certificate, key, expires, keep=False)
