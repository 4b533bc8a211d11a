"""Classify files: list them, and give one answer per clip or frame."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from crumb.data.sets.folder_layout import read_files
from crumb.errors import InputError, printable
from crumb.methods.answers import Verdict, together, verdict
from crumb.methods.base import Learner


def files_below(paths: Sequence[Path]) -> Iterator[Path]:
    """The files named, and the videos and images in the folders named, in natural order.

    Folders are read as ``crumb index folder`` and ``crumb learn`` read them. What is left out of
    them is told on standard error.

    Raises:
        InputError: a folder holds neither.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = read_files(path)
        for why, left_out in found.unused.items():
            line = f"{path}: left out: {len(left_out)} ({why}), the first {left_out[0]}"
            sys.stderr.write(f"{printable(line)}\n")
        if not found.entries:
            raise InputError(path, "holds no videos and no images", "give another folder")
        yield from (path / entry.path for entry in found.entries)


def answer_rows(
    learner: Learner, scores: Tensor, limits: Tensor | None, each_frame: bool
) -> list[Verdict]:
    """One verdict for a clip or, with ``each_frame``, one for each of its frames."""
    rows = scores if each_frame else together(scores)[None]
    return [verdict(learner, row, limits) for row in rows]
