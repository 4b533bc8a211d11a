"""Strip metadata from images whose metadata cannot be read."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

_PNG = b"\x89PNG\r\n\x1a\n"
# Lower case marks optional chunks. This one defines transparency.
_PNG_PIXELS = b"tRNS"
_PNG_TURNS = (b"tEXtRaw profile type exif\0", b"zTXtRaw profile type exif\0", b"iTXtXML:com.adobe.")
_JPEG_START, _JPEG_SCAN, _JPEG_COMMENT = b"\xff\xd8", 0xDA, 0xFE
_JPEG_METADATA = frozenset(range(0xE1, 0xF0)) - {0xEE} | {_JPEG_COMMENT}
_JPEG_TURNS = (b"\xe1Exif\0", b"\xe1http://ns.adobe.com/xap/")
# These define how colours are stored, if they are long enough.
_JPEG_COLOURS = ((b"\xe0JFIF\0", 14), (b"\xeeAdobe", 12))

# A part of a file, whether it is metadata, and whether it may hold the orientation.
_Part = tuple[bytes, bool, bool]


def with_less_metadata(content: bytes) -> Iterator[bytes]:
    """Yield a PNG or JPEG file with less and less metadata (texts, EXIF, colour profile).

    Metadata with the orientation is removed last: first all of it is kept, then each part alone,
    then nothing. Everything else is unchanged, including checksums, so damaged pixels are still
    detected.

    Yields:
        shorter files; none if there is nothing to remove, or if the file has another format.
    """
    if content.startswith(_PNG):
        parts = [*_png_parts(content)]
    elif content.startswith(_JPEG_START):
        parts = [*_jpeg_parts(content)]
    else:
        return
    turns = [place for place, (_, _, turns) in enumerate(parts) if turns]
    several = [turns] if len(turns) > 1 else []
    for kept in (*several, *([place] for place in turns), []):
        less = _without(parts, kept)
        if len(less) < len(content):
            yield less


def _without(parts: Sequence[_Part], kept: Sequence[int]) -> bytes:
    return b"".join(
        part for place, (part, extra, _) in enumerate(parts) if not extra or place in kept
    )


def _png_parts(content: bytes) -> Iterator[_Part]:
    yield _PNG, False, False
    place = len(_PNG)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        extra = kind[:1].islower() and kind != _PNG_PIXELS
        turns = kind == b"eXIf" or content.startswith(_PNG_TURNS, place + 4)
        yield content[place:end], extra, turns
        place = end


def _jpeg_parts(content: bytes) -> Iterator[_Part]:
    yield _JPEG_START, False, False
    place = len(_JPEG_START)
    while place + 4 <= len(content) and content[place] == 0xFF:
        kind, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if kind == _JPEG_SCAN or length < 2:
            break
        end = place + 2 + length
        named = bytes([kind]) + content[place + 4 : end]
        short = any(named.startswith(name) and len(named) <= n for name, n in _JPEG_COLOURS)
        yield content[place:end], kind in _JPEG_METADATA or short, named.startswith(_JPEG_TURNS)
        place = end
    yield content[place:], False, False
