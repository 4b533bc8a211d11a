"""Asking a model about files: which there are, and one answer a clip or a frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from crumb.data.sets.folder_layout import medium, natural
from crumb.data.system_folders import in_system_folder
from crumb.errors import InputError
from crumb.methods.answers import Verdict, together, verdict
from crumb.methods.base import Learner


def files_below(paths: Sequence[Path]) -> Iterator[Path]:
    """The files named, and the videos and images in the folders named, in natural order.

    Raises:
        InputError: a folder holds neither.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = [
            one
            for one in sorted(path.rglob("*"), key=lambda one: natural(str(one)))
            if medium(one.name)
            and one.is_file()
            and not one.name.startswith(".")
            and not in_system_folder(one.relative_to(path).parts[:-1])
        ]
        if not found:
            raise InputError(path, "holds no videos and no images", "name another folder")
        yield from found


def answer_rows(
    learner: Learner, scores: Tensor, limits: Tensor | None, each_frame: bool
) -> list[Verdict]:
    """One verdict for a clip or, with ``each_frame``, one for each of its frames."""
    rows = scores if each_frame else together(scores)[None]
    return [verdict(learner, row, limits) for row in rows]
