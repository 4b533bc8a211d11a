"""Pictures without what is written beside them, for files whose metadata cannot be read."""

from __future__ import annotations

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
# Nothing in these says which pixels a picture has.
_NO_PIXELS = frozenset(
    [
        *(b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME"),
        *(b"bKGD", b"hIST", b"sBIT", b"sPLT", b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi", b"oFFs"),
    ]
)
_JPEG_START, _JPEG_SCAN, _JPEG_COMMENT = b"\xff\xd8", 0xDA, 0xFE
# Those of JFIF and of Adobe say how colours are stored.
_JPEG_METADATA = frozenset(range(0xE1, 0xF0)) - {0xEE} | {_JPEG_COMMENT}


def without_metadata(content: bytes) -> bytes | None:
    """A PNG or JPEG file without texts, EXIF, colour profile and the like.

    Everything else, check sums included, stays as it is: damage to pixels is still noticed.

    Returns:
        the shorter file; None where there is nothing to leave out, or the file is of another kind.
    """
    if content.startswith(_PNG):
        bare = _bare_png(content)
    elif content.startswith(_JPEG_START):
        bare = _bare_jpeg(content)
    else:
        return None
    return bare if len(bare) < len(content) else None


def _bare_png(content: bytes) -> bytes:
    kept, place = [_PNG], len(_PNG)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if kind not in _NO_PIXELS:
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _bare_jpeg(content: bytes) -> bytes:
    kept, place = [_JPEG_START], len(_JPEG_START)
    while place + 4 <= len(content) and content[place] == 0xFF:
        kind, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if kind == _JPEG_SCAN or length < 2:
            break
        end = place + 2 + length
        if kind not in _JPEG_METADATA:
            kept.append(content[place:end])
        place = end
    return b"".join([*kept, content[place:]])
