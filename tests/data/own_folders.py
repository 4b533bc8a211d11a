"""Small folders and tables of one's own."""

from __future__ import annotations

from pathlib import Path

ONE_PIXEL = b"P6 1 1 255\n\x00\x00\x00"


def put(root: Path, *paths: str) -> Path:
    """Files with one pixel; an index of images does not open them."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(ONE_PIXEL)
    return root


def table(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"
