"""Go's profiles (pprof) as folded stacks.  Pure.

Reads just what a CPU profile's stacks need of the format: github.com/google/pprof's
``profile.proto``, gzipped.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator

__all__ = ["folded"]

# fields of the messages, by number
_SAMPLE, _LOCATION, _FUNCTION, _STRING = 2, 4, 5, 6
#: bytes of a profile at most, unpacked
MOST = 200_000_000


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("it is cut off")
            yield number, data[at : at + size]
            at += size
        else:
            at += {1: 8, 5: 4}[kind]


def _numbers(value: int | bytes) -> list[int]:
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        one, at = _varint(value, at)
        found.append(one)
    return found


def _first(data: bytes, number: int) -> int:
    return next((int(value) for key, value in _fields(data) if key == number), 0)


def folded(profile: bytes) -> dict[str, int]:
    """``outermost;…;innermost`` and how often it was seen.

    Raises:
        ValueError: it is no profile.
    """
    try:
        if not profile:
            raise ValueError("it is empty")
        return _folded(gzip.decompress(profile)[:MOST])
    except (OSError, EOFError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no profile: {error}") from None


def _folded(data: bytes) -> dict[str, int]:
    strings: list[str] = []
    functions: dict[int, int] = {}
    locations: dict[int, list[int]] = {}
    samples: list[tuple[list[int], int]] = []
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if number == _STRING:
            strings.append(value.decode(errors="replace"))
        elif number == _FUNCTION:
            functions[_first(value, 1)] = _first(value, 2)
        elif number == _LOCATION:
            lines = [line for key, line in _fields(value) if key == 4]
            locations[_first(value, 1)] = [
                _first(line, 1) for line in lines if isinstance(line, bytes)
            ]
        elif number == _SAMPLE:
            where: list[int] = []
            counts: list[int] = []
            for key, part in _fields(value):
                if key == 1:
                    where += _numbers(part)
                elif key == 2:
                    counts += _numbers(part)
            samples.append((where, counts[0] if counts else 0))
    found: dict[str, int] = {}
    for where, count in samples:
        # innermost first, inlined callers after what they called
        names = [
            strings[functions[function]].rpartition("/")[2].replace(";", ",")
            for location in where
            for function in locations.get(location, [])
        ]
        stack = ";".join(reversed(names))
        if stack and count:
            found[stack] = found.get(stack, 0) + count
    return found
