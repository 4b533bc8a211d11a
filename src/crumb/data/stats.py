"""Counts that show whether an index is balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

_FULL_SESSION = 15
_PER_CLASS = ("images", "sessions", "objects")


def counts(index: pd.DataFrame) -> dict[str, np.ndarray]:
    """Counts that show whether an index is balanced, each an array of one or more numbers.

    A session is one clip: a (class, object, session). "images per session", "sessions per object",
    "sessions per class", "images per class", "objects per class", "sessions in all", "classes",
    "images".
    """
    keys = index[["class", "object", "session"]].to_numpy()
    clips, images = np.unique(keys, axis=0, return_counts=True)
    objects, sessions = np.unique(clips[:, :2], axis=0, return_counts=True)
    per_class = _counts(keys[:, 0])
    return {
        "images per session": images,
        "sessions per object": sessions,
        "sessions per class": _values(_counts(clips[:, 0])),
        "images per class": _values(per_class),
        "objects per class": _values(_counts(objects[:, 0])),
        "sessions in all": np.array([len(clips)]),
        "classes": np.array([len(per_class)]),
        "images": np.array([len(index)]),
    }


def departures(index: pd.DataFrame, published: Mapping[str, int]) -> list[str]:
    """Names of the published counts that do not hold for an index."""
    found = counts(index)
    return [name for name, count in published.items() if (found[name] != count).any()]


def balance_report(
    index: pd.DataFrame,
    class_names: Mapping[int, str],
    name: str,
    published: Mapping[str, int] | None = None,
) -> str:
    """Counts of images, sessions and objects as aligned text.

    Args:
        index: One row per image, with columns ``crumb.data.index.COLUMNS``.
        class_names: Name of each class id.
        name: Name of the data set.
        published: Published counts, by the names of :func:`counts`. The last line names those that
            differ.

    Returns:
        Lines of text, without a line break at the end.
    """
    figures = counts(index)
    # The last im_num is not the count: some data sets count from 0 or in larger steps.
    full = np.count_nonzero(figures["images per session"] >= _FULL_SESSION)
    numbers = list(_counts(index["class"].to_numpy()))
    of_classes = [figures[f"{what} per class"].tolist() for what in _PER_CLASS]
    lines = [
        f"{name}: {len(index)} images of {len(numbers)} classes",
        "",
        *aligned(
            ("class", "id", *_PER_CLASS),
            [
                (class_names[number], number, *found)
                for number, *found in zip(numbers, *of_classes, strict=True)
            ],
        ),
        "",
        *aligned(
            ("", "mean", "min", "max"),
            [
                (what, f"{figures[what].mean():.2f}", figures[what].min(), figures[what].max())
                for what in ("images per session", "sessions per object", "sessions per class")
            ],
        ),
        "",
        f"sessions in all: {figures['sessions in all'][0]}",
        f"sessions of at least {_FULL_SESSION} images: {full}",
    ]
    if published:
        lines.append(f"the published counts {_verdict(departures(index, published))}")
    return "\n".join(lines)


def _values(counted: Mapping[int, int]) -> np.ndarray:
    return np.array([*counted.values()])


def _counts(classes: np.ndarray) -> dict[int, int]:
    """Rows of each class id, ascending."""
    numbers, counts = np.unique(classes, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _verdict(wrong: Sequence[str]) -> str:
    return f"do not hold: {', '.join(wrong)}" if wrong else "hold"


def aligned(header: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table as lines, with the first column left-aligned and the others right-aligned."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
