"""Write the tables of docs/results.md from the CSV files of comparisons.

Each file in benchmarks/results is the comparison.csv of one call of ``crumb compare``, under a name
of its own. The page has a place for each: everything between ``<!-- table NAME -->`` and
``<!-- end -->``. A test fails when the page and the files differ.

    python tools/make_results.py benchmarks/results > section.md
    python tools/make_results.py benchmarks/results --page docs/results.md
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from crumb.errors import InputError
from crumb.files import read_text, write_text
from crumb.methods.facts import facts
from crumb.reports.comparison import LONG_HEAD, ranked
from crumb.reports.families import in_bytes
from crumb.reports.key_figures import KeyFigures, columns, over_runs
from crumb.reports.table import Column, Table

FIGURES = ("final", "average", "forgetting", "replay_bytes", "total_bytes", "seconds", "runs")
PLACE = re.compile(r"<!-- table ([\w.-]+) -->\n.*?<!-- end -->", re.DOTALL)
_REMEDY = "copy the comparison.csv of crumb compare"
Cells = dict[tuple[str, int | None], KeyFigures]


def main(words: Sequence[str] | None = None) -> int:
    """Print the tables, or write them into a page. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of CSV files")
    parser.add_argument("--page", type=Path, help="page whose places for tables are filled")
    given = parser.parse_args(words)
    try:
        found = tables(given.folder)
        if given.page is None:
            sys.stdout.write("\n\n".join(found.values()) + "\n")
        else:
            write_text(given.page, fill(given.page, found))
    except InputError as error:
        sys.stderr.write(f"{error.in_flags()}\n")
        return 2
    return 0


def tables(folder: Path) -> dict[str, str]:
    """The tables of each CSV file of a folder in Markdown, between their marks, by its name.

    Raises:
        InputError: the folder has no CSV file, or one is no comparison.
    """
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise InputError(folder, "holds no CSV file", _REMEDY)
    return {path.stem: _between_marks(path.stem, markdown(read(path))) for path in paths}


def fill(page: Path, found: dict[str, str]) -> str:
    """The text of a page with a table in each of its places.

    Raises:
        InputError: a place has no file, or a file no place.
    """
    text = read_text(page, "name a page in Markdown")
    places = PLACE.findall(text)
    for name in found.keys() ^ set(places):
        problem = "has no CSV file" if name in places else "has no place on the page"
        remedy = f"add <!-- table {name} --> and <!-- end --> to the page, or remove the file"
        if name in places:
            remedy = f"add {name}.csv, or remove the place"
        raise InputError(f"{page}, table {name}", problem, remedy)
    return PLACE.sub(lambda place: found[place[1]], text)


def read(path: Path) -> Cells:
    """The key figures of each method and budget in a comparison.csv.

    Raises:
        InputError: it is no comparison, or a number is missing or damaged.
    """
    rows: dict[tuple[str, int | None], list[dict[str, float | None]]] = {}
    reader = csv.DictReader(io.StringIO(read_text(path, _REMEDY)))
    if tuple(reader.fieldnames or ())[: len(LONG_HEAD)] != LONG_HEAD:
        raise InputError(path, "is not the table of a comparison", _REMEDY)
    try:
        for row in reader:
            method, budget = row.pop("method"), row.pop("budget_bytes")
            cell = method, int(budget) if budget else None
            numbers = {name: float(text) if text else None for name, text in row.items()}
            rows.setdefault(cell, []).append(numbers)
        return {cell: over_runs(runs) for cell, runs in rows.items()}
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        raise InputError(path, f"is damaged ({error})", _REMEDY) from error


def markdown(cells: Cells) -> str:
    """One table for each budget; methods without exemplars are in all of them."""
    budgets = sorted({budget for _, budget in cells if budget is not None})
    parts = []
    for budget in budgets or [None]:
        known = {name: one for (name, own), one in cells.items() if own in (budget, None)}
        order = ranked({name: (facts(name).offline, one) for name, one in known.items()}, budget)
        rows = [[f"`{name}`", rank, *known[name].cells(FIGURES)] for name, rank in order.items()]
        table = Table([Column("method"), Column("rank"), *columns(FIGURES)], rows)
        parts.append(f"{in_bytes(budget).capitalize()}:\n\n{table.markdown()}")
    return "\n\n".join(parts)


def _between_marks(name: str, text: str) -> str:
    return f"<!-- table {name} -->\n\n{text}\n\n<!-- end -->"


if __name__ == "__main__":
    sys.exit(main())
