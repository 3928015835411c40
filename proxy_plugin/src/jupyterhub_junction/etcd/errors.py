"""What can go wrong between a client and etcd's gateway, in words that say what to mend."""

from __future__ import annotations

import json
import socket
import ssl
from contextlib import suppress
from typing import Any

import aiohttp

from ..store import Compacted, StoreError, StoreRefused, StoreUnavailable

__all__ = ["Json", "RpcError", "Transport", "cancelled", "explain", "parse", "reason", "rpc_error"]

Json = dict[str, Any]

#: gRPC status codes (google.golang.org/grpc/codes)
INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION = 3, 5, 7, 9
OUT_OF_RANGE, UNIMPLEMENTED, UNAVAILABLE, UNAUTHENTICATED = 11, 12, 14, 16


class RpcError(Exception):
    """etcd's own answer that a call failed (etcd's api/v3rpc/rpctypes/error.go lists them)."""

    def __init__(self, endpoint: str, code: int, message: str) -> None:
        super().__init__(f"{endpoint}: {message}")
        self.endpoint = endpoint
        self.code = code
        self.message = message.removeprefix("etcdserver: ")

    @property
    def sign_in_again(self) -> bool:
        """The token ran out, or users and roles changed since it was given, or there is none."""
        return (
            self.code == UNAUTHENTICATED
            or "invalid auth token" in self.message
            or "revision of auth store is old" in self.message
            or "user name is empty" in self.message
        )

    @property
    def transient(self) -> bool:
        """Another endpoint, or the same one a little later, may answer."""
        if "database space exceeded" in self.message:
            return False
        if "not supported for learner" in self.message:  # a member that has just joined
            return True
        return self.code not in (
            INVALID_ARGUMENT,
            NOT_FOUND,
            PERMISSION_DENIED,
            OUT_OF_RANGE,
            FAILED_PRECONDITION,
            UNAUTHENTICATED,
        )

    def as_store_error(self, user: str | None) -> StoreError:
        """The error of :mod:`..store` that tells what to mend."""
        where, what = f"etcd at {self.endpoint}", self.message
        if self.code == OUT_OF_RANGE and "compacted" in what:
            return Compacted(f"{where}: {what}")
        if self.transient:
            return StoreUnavailable(f"{where}: {what}")
        if self.sign_in_again:
            if user is None:
                return StoreRefused(f"{where} wants a user and a password: none are configured")
            return StoreUnavailable(f"{where}: the sign-in ran out: {what}")
        if "authentication failed" in what or "user name not found" in what:
            return StoreRefused(f"{where} refuses user {user!r}: the user or the password is wrong")
        if self.code == PERMISSION_DENIED:
            return StoreRefused(
                f"{where}: user {user!r} has no permission for this: grant its role the keys"
            )
        if "database space exceeded" in what:
            return StoreRefused(
                f"{where} is full: compact and defragment it, then disarm its NOSPACE alarm"
            )
        return StoreRefused(f"{where}: {what}")


class Transport(Exception):
    """An endpoint could not be talked to.

    Attributes:
        refused: it will not be better later.
        absent: nothing listens there, or its name is not known.
    """

    def __init__(
        self, endpoint: str, what: str, *, refused: bool = False, absent: bool = False
    ) -> None:
        super().__init__(f"{endpoint}: {what}")
        self.refused = refused
        self.absent = absent


#: TLS alerts about the client's certificate, as OpenSSL names them
_CERTIFICATE_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNKNOWN_CA",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_EXPIRED",
    "HANDSHAKE_FAILURE",
)


def explain(
    endpoint: str, error: Exception, *, ca: str | None, cert: str | None, trouble: str = ""
) -> Transport:
    """Say what is wrong with the way to an endpoint, and what to mend.

    Args:
        trouble: what is known to be wrong with the TLS files.
    """
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        if "ostname mismatch" in cause.verify_message or "IP address" in cause.verify_message:
            what = f"its certificate is for another name ({cause.verify_message.rstrip('.')})"
        else:
            what = (
                f"its certificate is not trusted ({cause.verify_message}):"
                f" check the CA file {ca or '(none given)'}"
            )
        return Transport(endpoint, what, refused=True)
    text = reason(cause)
    if isinstance(error, aiohttp.ClientConnectorDNSError) or isinstance(cause, socket.gaierror):
        # else the name service is what does not answer
        unknown = getattr(cause, "errno", None) in (socket.EAI_NONAME, socket.EAI_NODATA)
        return Transport(endpoint, "its name is not known: check the address", absent=unknown)
    if isinstance(cause, ConnectionRefusedError):
        what = "connection refused: check the address, and that etcd runs"
        return Transport(endpoint, what, absent=True)
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return Transport(endpoint, "it does not speak TLS: use http://", refused=True)
    if any(f"ALERT_{why}" in text for why in _CERTIFICATE_ALERTS):
        what = f"it does not trust the client certificate {cert}: check it, and etcd's CA"
        if cert is None:
            what = "it wants a client certificate: none is configured"
        elif trouble:
            what = f"it does not trust the client certificate: {trouble}"
        return Transport(endpoint, what, refused=True)
    if isinstance(cause, ConnectionResetError | aiohttp.ServerDisconnectedError):
        # So etcd meets TLS where it has none, and the other way round; so it goes down, too.
        other = "http://" if endpoint.startswith("https:") else "https://"
        text = f"it hangs up without an answer (should the address begin with {other}?)"
    return Transport(endpoint, text)


def parse(endpoint: str, response: aiohttp.ClientResponse, text: bytes) -> Json:
    """The JSON object that the gateway answered; raises :class:`Transport` for anything else."""
    with suppress(ValueError):
        answer = json.loads(text)
        if isinstance(answer, dict):
            return answer
    if b"HTTP request to an HTTPS server" in text:
        raise Transport(endpoint, "it speaks TLS: use https://", refused=True)
    raise Transport(
        endpoint,
        f"it does not answer as etcd's gateway does (HTTP {response.status},"
        f" {response.content_type}): check the address",
        # What stands in front of an etcd answers 502 to 504 while etcd is away.
        refused=response.status < 500,
    )


def rpc_error(endpoint: str, error: Any) -> Exception:
    """The exception for the ``error`` of an answer or of a stream's message."""
    if not isinstance(error, dict):
        return RpcError(endpoint, 2, str(error))
    code = error.get("grpc_code", error.get("code", 2))
    message = str(error.get("message") or error.get("error") or "unknown error")
    if code == UNIMPLEMENTED or (code == NOT_FOUND and message == "Not Found"):
        # The gateway's own 404; etcd's have etcd's words.
        return Transport(endpoint, "it has no etcd v3 gateway: check the address", refused=True)
    return RpcError(endpoint, int(code or 2), message)


def cancelled(endpoint: str, reason: str) -> RpcError:
    """The error behind a watch's ``cancel_reason``, which has no code but etcd's words."""
    code = UNAVAILABLE
    if "permission denied" in reason:
        code = PERMISSION_DENIED
    elif "auth token" in reason:
        code = UNAUTHENTICATED
    elif "auth store is old" in reason or "user name is empty" in reason:
        code = INVALID_ARGUMENT
    elif "compacted" in reason:
        code = OUT_OF_RANGE
    return RpcError(endpoint, code, reason.partition("desc = ")[2] or reason)


def reason(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
