"""The figures that tell whether an index is balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from crumb.data.toybox import CLASSES

_FULL_SESSION = 15
_TOYBOX = {
    "images per class": 4350,
    "images per session": 15,
    "sessions per object": 10,
    "sessions per class": 290,
    "objects per class": 29,
    "sessions in all": 3480,
}


def balance_report(index: pd.DataFrame, class_names: Mapping[int, str], name: str) -> str:
    """Counts of images, sessions and objects as aligned text.

    A session is one clip: a (class, object, session). For the data set named "toybox" with the
    twelve published classes, the last line says which of the published counts hold.

    Args:
        index: One row an image, columns ``crumb.data.index.COLUMNS``.
        class_names: Name of each class id.
        name: Name of the data set.

    Returns:
        Lines without a line end after the last.
    """
    keys = index[["class", "object", "session"]].to_numpy()
    clips, clip_of, images = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    objects, sessions = np.unique(clips[:, :2], axis=0, return_counts=True)
    last_frame = np.zeros(len(clips), dtype=np.int64)
    np.maximum.at(last_frame, clip_of, index["im_num"].to_numpy())
    counts = {
        "images": _counts(keys[:, 0]),
        "sessions": _counts(clips[:, 0]),
        "objects": _counts(objects[:, 0]),
    }
    figures = {
        "images per session": images,
        "sessions per object": sessions,
        "sessions per class": np.array(list(counts["sessions"].values())),
    }
    full = np.count_nonzero(last_frame >= _FULL_SESSION)
    lines = [
        f"{name}: {len(index)} images of {len(counts['images'])} classes",
        "",
        *_table(
            ("class", "id", *counts),
            [
                (class_names[number], number, *(count[number] for count in counts.values()))
                for number in counts["images"]
            ],
        ),
        "",
        *_table(
            ("", "mean", "min", "max"),
            [
                (what, f"{values.mean():.2f}", values.min(), values.max())
                for what, values in figures.items()
            ],
        ),
        "",
        f"sessions in all: {len(clips)}",
        f"sessions of at least {_FULL_SESSION} images: {full}",
    ]
    if name == "toybox" and {class_names[number] for number in counts["images"]} == set(CLASSES):
        figures["images per class"] = np.array(list(counts["images"].values()))
        figures["objects per class"] = np.array(list(counts["objects"].values()))
        figures["sessions in all"] = np.array([len(clips)])
        wrong = [what for what, count in _TOYBOX.items() if (figures[what] != count).any()]
        lines.append(f"the published counts {_verdict(wrong)}")
    return "\n".join(lines)


def _counts(classes: np.ndarray) -> dict[int, int]:
    """Rows of each class id, ascending."""
    numbers, counts = np.unique(classes, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _verdict(wrong: Sequence[str]) -> str:
    return f"do not hold: {', '.join(wrong)}" if wrong else "hold"


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines with the first column to the left and the others to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
