"""Damaging files."""

from __future__ import annotations

from pathlib import Path


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("These are not the frames you are looking for.\n" * 100)
