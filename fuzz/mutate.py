"""Random damage to bytes, for machines without a coverage-guided fuzzer."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

TOKENS = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\r\n",
    b"\n",
    b" ",
    b",",
    b'"',
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b"{}",
    b"[]",
    b'""',
    b"0",
    b"-1",
    b"1.5",
    b"1e999",
    b"NaN",
    b"Infinity",
    b"inf",
    b"null",
    b"true",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"1" * 400,
    b"\\u0000",
    b"\\ud800",
    b"../",
    b"/",
    b"1979-05-27",
)
"""Strings that break readers more often than random bytes."""

_VALUE = re.compile(rb'-?[0-9]+(?:\.[0-9]+)?|"[^"]*"|true|false|null')


def mutated(seeds: Sequence[bytes], draw: random.Random, largest: int) -> bytes:
    """One of the seeds with one to four random changes, at most ``largest`` bytes."""
    content = draw.choice(seeds)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        content = _change(content, seeds, draw)
    return content[:largest]


def _change(content: bytes, seeds: Sequence[bytes], draw: random.Random) -> bytes:
    start = draw.randint(0, len(content))
    end = min(len(content), start + draw.choice((0, 1, 1, 2, 4, 8, 64, 1024)))
    kind = draw.randrange(7)
    if kind == 0:
        return content[:start] + draw.randbytes(end - start) + content[end:]
    if kind == 1:
        return content[:start] + draw.choice(TOKENS) + content[end:]
    if kind == 2:
        return content[:start] + content[end:]
    if kind == 3:
        return content[:end] + content[start:end] * draw.choice((1, 2, 100)) + content[end:]
    if kind == 4:
        other = draw.choice(seeds)
        place = draw.randint(0, len(other))
        return content[:start] + other[place : place + end - start] + content[end:]
    if kind == 5:
        return content[:start]
    values = [*_VALUE.finditer(content)]
    if not values:
        return content
    value = draw.choice(values)
    other = draw.choice([draw.choice(TOKENS), draw.choice(values)[0]])
    return content[: value.start()] + other + content[value.end() :]
