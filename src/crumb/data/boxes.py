"""Checks the boxes of an MP4 or QuickTime file for frames beyond the end of the file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_FIRST = (b"ftyp", b"wide", b"skip", b"free", b"moov", b"mdat", b"moof")
# Flags of a fragment about its samples (ISO/IEC 14496-12, 8.8.7 and 8.8.8).
_BASE, _DESCRIPTION, _DURATION, _SIZE = 0x1, 0x2, 0x8, 0x10
_OFFSET, _FIRST_FLAGS, _EACH_SIZE = 0x1, 0x4, 0x200
_OF_A_SAMPLE = (0x100, 0x200, 0x400, 0x800)


@dataclass(frozen=True)
class _Box:
    """Byte range of a box: ``start``, start of its content ``inner``, and ``end``."""

    kind: bytes
    start: int
    inner: int
    end: int


def is_cut_short(path: Path, size: int) -> bool:
    """Whether the video index, or samples of a fragment, extend beyond the end of the file.

    Three faults are ignored: foreign bytes after the last box, metadata that is cut off, and a box
    that claims to be longer than its contents.

    Args:
        path: path of the file.
        size: size of the file in bytes.
    """
    with path.open("rb") as file:
        boxes = [*_boxes(file, 0, size, size)]
        if not boxes or boxes[0].kind not in _FIRST:
            return False
        return any(
            (box.kind == b"moov" and box.end > size and _lacks_index(file, box, size))
            or (box.kind == b"moof" and _lacks_samples(file, box, size))
            for box in boxes
        )


def runs_over(path: Path, size: int) -> bool:
    """Whether a box for frames or their index extends beyond the end of the file."""
    with path.open("rb") as file:
        boxes = [*_boxes(file, 0, size, size)]
    if not boxes or boxes[0].kind not in _FIRST:
        return False
    return any(box.end > size for box in boxes if box.kind in (b"moov", b"mdat", b"moof"))


def _boxes(file: BinaryIO, start: int, end: int, size: int) -> Iterator[_Box]:
    """Boxes that begin in a byte range, up to the first invalid one; the last may end after it."""
    while start + 8 <= min(end, size):
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        inner = start + 8
        if length == 1:
            length, inner = int.from_bytes(file.read(8), "big"), start + 16
        elif length == 0:
            length = size - start
        if length < inner - start:
            return
        yield _Box(kind, start, inner, start + length)
        start += length


def _child(file: BinaryIO, box: _Box, kind: bytes, size: int) -> _Box | None:
    children = _boxes(file, box.inner, box.end, size)
    return next((child for child in children if child.kind == kind), None)


def _lacks_index(file: BinaryIO, moov: _Box, size: int) -> bool:
    """Whether the sample table of a video track is incomplete."""
    tracks = [box for box in _boxes(file, moov.inner, moov.end, size) if box.kind == b"trak"]
    cut = next((track for track in tracks if track.end > size), None)
    if cut is None:
        return not tracks
    media = _child(file, cut, b"mdia", size)
    handler = media and _child(file, media, b"hdlr", size)
    if handler:
        file.seek(handler.inner + 8)
        if file.read(4) not in (b"vide", b""):
            return False
    information = media and _child(file, media, b"minf", size)
    table = information and _child(file, information, b"stbl", size)
    return table is None or table.end > size


def _lacks_samples(file: BinaryIO, moof: _Box, size: int) -> bool:
    """Whether a fragment with a header lists samples beyond the end of the file."""
    first = next(_boxes(file, moof.inner, moof.end, size), None)
    if first is None or first.kind != b"mfhd":
        return False
    if moof.end > size:
        return True
    # If the fragment does not give the end, the media box after it must be complete.
    media = next(_boxes(file, moof.end, size, size), None)
    known_end = media.end if media and media.kind == b"mdat" else size + 1
    ends: list[int | None] = []
    for track in _boxes(file, moof.inner, moof.end, size):
        if track.kind == b"traf":
            ends += _ends_of_runs(file, moof, track, size)
    return any((known_end if end is None else end) > size for end in ends)


def _ends_of_runs(file: BinaryIO, moof: _Box, track: _Box, size: int) -> list[int | None]:
    """Where the samples of each run of a track fragment end; None if unknown."""
    base, usual, ends = moof.start, None, []
    for box in _boxes(file, track.inner, track.end, size):
        if box.kind not in (b"tfhd", b"trun"):
            continue
        file.seek(box.inner)
        content = file.read(box.end - box.inner)
        flags = int.from_bytes(content[1:4], "big")
        if box.kind == b"tfhd":
            base, usual = _defaults(content, flags, base)
        else:
            ends.append(_end_of_run(content, flags, base, usual))
    return ends


def _defaults(content: bytes, flags: int, base: int) -> tuple[int, int | None]:
    """Base offset and default sample size of a track fragment."""
    place = 8
    if flags & _BASE:
        base, place = int.from_bytes(content[8:16], "big"), 16
    place += 4 * sum(bool(flags & flag) for flag in (_DESCRIPTION, _DURATION))
    usual = int.from_bytes(content[place : place + 4], "big") if flags & _SIZE else None
    return base, usual


def _end_of_run(content: bytes, flags: int, base: int, usual: int | None) -> int | None:
    if not flags & _OFFSET:
        return None
    count = int.from_bytes(content[4:8], "big")
    start = base + int.from_bytes(content[8:12], "big", signed=True)
    place = 12 + 4 * bool(flags & _FIRST_FLAGS)
    if not flags & _EACH_SIZE:
        return None if usual is None else start + count * usual
    fields = [flag for flag in _OF_A_SAMPLE if flags & flag]
    row, at = 4 * len(fields), 4 * fields.index(_EACH_SIZE)
    sizes = (
        int.from_bytes(content[place + n * row + at : place + n * row + at + 4], "big")
        for n in range(min(count, len(content) // row))
    )
    return start + sum(sizes)
