"""What flags of both command lines, ours and CHP's, are held against."""

from __future__ import annotations

import re

__all__ = ["is_header_name", "is_http_url"]


def is_http_url(text: str) -> bool:
    """Whether it is a URL of HTTP with neither query nor fragment."""
    return bool(re.fullmatch(r"https?://[^/?#\s]+(?:/[^?#\s]*)?", text))


def is_header_name(text: str) -> bool:
    """Whether it is a header's name (a token, RFC 9110 section 5.6.2)."""
    return bool(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text))
