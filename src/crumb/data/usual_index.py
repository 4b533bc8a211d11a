"""Read an index file fast: many rows at a time, if nothing in the file is unusual."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from crumb.data.index_rules import COLUMNS, MOST_DIGITS, path_problem
from crumb.files import file_size

# Number of rows at a time. More do not fit in the cache of a processor.
_ROWS = 256


def read_usual(path: Path) -> pd.DataFrame | None:
    """Read an index file in which nothing is unusual; None if a rule may be broken.

    It checks the rules of :func:`read_index` for many rows at a time. If it returns None, the
    row-by-row reader finds the row that breaks a rule, or accepts the file.
    """
    numbers: list[list[np.ndarray]] = [[] for _ in COLUMNS[:-1]]
    images: list[str] = []
    try:
        file_size(path)
        with path.open(encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader)
            if any(header.count(column) != 1 for column in COLUMNS):
                return None
            while rows := [*itertools.islice(reader, _ROWS)]:
                if {*map(len, rows)} != {len(header)}:
                    return None
                columns = [*zip(*rows, strict=True)]
                *texts, paths = (columns[header.index(column)] for column in COLUMNS)
                if not (all(map(_usual_numbers, texts)) and _usual_paths(paths)):
                    return None
                for found, column in zip(numbers, texts, strict=True):
                    found.append(np.fromiter(map(int, column), np.int64, len(column)))
                images += paths
    except (OSError, ValueError, csv.Error, StopIteration):
        return None
    if not images:
        return None
    columns = zip(COLUMNS, map(np.concatenate, numbers), strict=False)
    index = pd.DataFrame(dict(columns)).assign(im_path=images)
    return None if _repeats(index) else index


def _usual_numbers(column: Sequence[str]) -> bool:
    """Whether all texts are numbers with few enough digits."""
    joined, lengths = "".join(column), {*map(len, column)}
    return (
        joined.isascii() and joined.isdigit() and min(lengths) > 0 and max(lengths) <= MOST_DIGITS
    )


def _usual_paths(paths: Sequence[str]) -> bool:
    """Whether all texts are valid paths of an index."""
    joined = "\n".join(paths)
    plain = joined.replace("\n", "").isprintable() and joined.count("\n") == len(paths) - 1
    if plain and ".." not in joined and "\n/" not in f"\n{joined}":
        return "" not in paths and all(path == path.strip() for path in paths)
    return not any(map(path_problem, paths))


def _repeats(index: pd.DataFrame) -> bool:
    """Whether two rows have the same frame, or two clips share an image."""
    if index.duplicated(list(COLUMNS[:-1])).any():
        return True
    if len(set(index["im_path"].tolist())) == len(index):
        return False
    again = index.loc[index["im_path"].duplicated(keep=False)]
    clips = again.drop_duplicates([column for column in COLUMNS if column != "im_num"])
    return bool(clips["im_path"].duplicated().any())
