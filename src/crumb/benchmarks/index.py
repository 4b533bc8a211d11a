"""Row ``index``: reading an index of many images.

The plain way checks one row after the other. The fast way checks the same rules for many rows at a
time. Both give the same table.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import interleaved, peak_resident, timed
from crumb.benchmarks.workplace import Workplace
from crumb.data.index import COLUMNS, index_parts, read_carefully, read_index
from crumb.files import write_parts

ROWS = 200_000
_OF_A_CLASS = 1_300


def measure(place: Workplace) -> list[Comparison]:
    """Ratios of the plain way to ours: seconds, and the memory including the table."""
    path = place.folder / "large_dirmap.csv"
    write_parts(path, index_parts(_index(ROWS)))
    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: read_carefully(path),
        "crumb": lambda: read_index(path),
    }
    seconds = interleaved(timed(calls, "cpu"), place.setting.repeats, "index")
    what = f"an index of {ROWS:,} images"
    found = [Comparison("index", f"reading {what}", [Figure(n, s) for n, s in seconds.items()])]
    peaks = {name: peak_resident(call) for name, call in calls.items()}
    figures = [Figure(name, n / 1e6, "MB") for name, n in peaks.items() if n is not None]
    if figures:
        found.append(Comparison("index", f"memory while reading {what}", figures))
    path.unlink()
    return found


def _index(rows: int) -> pd.DataFrame:
    """Write an index with names as in ImageNet. Each image is a separate clip."""
    table = [
        (n // _OF_A_CLASS, n, 0, 0, f"train/n{n // _OF_A_CLASS:08}/n{n // _OF_A_CLASS:08}_{n}.JPEG")
        for n in range(rows)
    ]
    return pd.DataFrame(table, columns=list(COLUMNS))
