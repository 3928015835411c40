"""Routes as Traefik's rules: strings that match a path, or a group of paths or hosts.

Pure.  Invariant: no name of a route stands in a rule unquoted.

How Traefik sees a path (its muxer's ``withRoutingPath``): unreserved and all other characters
are decoded; those that RFC 3986 §2.2 reserves, and ``%``, stay as the client sent them.
So a reserved character in a routespec matches in both of its forms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

__all__ = [
    "EVERYTHING",
    "dot_segments_rule",
    "group_rule",
    "host_group_rule",
    "host_rule",
    "leaf_rule",
    "path_rule",
    "tokens_of",
]

EVERYTHING = 'PathPrefix("/")'

# Traefik leaves these encoded if they came encoded, and plain if they came plain.  '/' and '%'
# are not here: their plain and encoded forms mean different paths.
_BOTH_FORMS = frozenset(":[]@!$&'()*+,;=")
# These cannot stand plain in a path, so only their encoded form reaches the muxer.
_ALWAYS_ENCODED = {"?": "%3F", "#": "%23"}
# What stands in a literal of Go as it is.
_UNQUOTED = re.compile(r"[A-Za-z0-9/%_.~@:+-]*")
_TOKEN = re.compile(r"%2F|%25|.", re.DOTALL)


def _quoted(text: str) -> str:
    """``text`` as a Go string literal, which is what Traefik's rule parser reads."""
    if _UNQUOTED.fullmatch(text):
        return f'"{text}"'
    plain = json.dumps(text, ensure_ascii=True)
    # JSON writes what is beyond U+FFFF as two surrogates; Go wants \UXXXXXXXX
    plain = re.sub(
        r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})",
        lambda m: f"\\U{0x10000 + ((int(m[1], 16) - 0xD800) << 10) + int(m[2], 16) - 0xDC00:08x}",
        plain,
    )
    return plain.replace("`", "\\u0060")


def tokens_of(path: str) -> tuple[str, ...]:
    """A canonical path as characters of the path that it means; ``%2F`` and ``%25`` are one."""
    return tuple(path) if "%" not in path else tuple(_TOKEN.findall(path))


def _pattern(token: str) -> str:
    """The regular expression for one token, in all forms in which it reaches the muxer."""
    if token in _BOTH_FORMS:
        return f"(?:{re.escape(token)}|%{ord(token):02X})"
    token = _ALWAYS_ENCODED.get(token, token)
    return re.sub(r"[^0-9A-Za-z/%_~-]", lambda m: f"\\x{{{ord(m[0]):x}}}", token)


def _is_plain(tokens: Iterable[str]) -> bool:
    return _BOTH_FORMS.isdisjoint(tokens)


def _literal(tokens: Iterable[str]) -> str:
    return "".join(tokens).replace("?", "%3F").replace("#", "%23")


def leaf_rule(tokens: Sequence[str]) -> str:
    """Matches the path itself and everything below it."""
    return _leaf_rule("".join(tokens))


# most routes are the same from one document to the next
@lru_cache(maxsize=65536)
def _leaf_rule(canonical: str) -> str:
    tokens = tokens_of(canonical)
    if _is_plain(tokens):
        path = _literal(tokens)
        return f"Path({_quoted(path)}) || PathPrefix({_quoted(path + '/')})"
    return f"PathRegexp({_quoted('^' + ''.join(map(_pattern, tokens)) + '(?:/|$)')})"


def group_rule(tokens: Sequence[str], heads: Sequence[str] = ()) -> str:
    """Matches every path that begins with the tokens, then (if given) with one of the heads."""
    if len(heads) == 1:
        tokens, heads = [*tokens, heads[0]], ()
    if not heads and _is_plain(tokens):
        return f"PathPrefix({_quoted(_literal(tokens))})"
    pattern = "".join(map(_pattern, tokens))
    if heads:
        pattern += "(?:" + "|".join(map(_pattern, heads)) + ")"
    return f"PathRegexp({_quoted('^' + pattern)})"


def host_group_rule(hosts: Iterable[str]) -> str:
    """Matches these hosts and no other; the dot is that of a fully qualified name."""
    pattern = "^(?:" + "|".join(map(re.escape, hosts)) + r")\.?$"
    return f"HostRegexp({_quoted(pattern)})"


def host_rule(host: str) -> str:
    """Matches this host."""
    return f"Host({_quoted(host)})"


def path_rule(path: str) -> str:
    """Matches this very path."""
    return f"Path({_quoted(path)})"


def dot_segments_rule() -> str:
    """Matches every path in which a segment is ``.`` or ``..``, encoded or not."""
    pattern = r"/\x{2e}\x{2e}?(?:/|$)"
    return f"PathRegexp({_quoted(pattern)})"
