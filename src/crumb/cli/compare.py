"""``crumb compare``: methods in the same number of bytes, a table and three pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tyro

from crumb.cli.parsing import Preset, parse_parts
from crumb.cli.tables import align, check_free
from crumb.errors import InputError
from crumb.experiments.compare import CompareConfig, Comparison, compare
from crumb.experiments.grid import default_folder
from crumb.files import write_csv, write_text
from crumb.nets.config import NetworkConfig
from crumb.reports import comparison as analysis
from crumb.reports.comparison_figures import draw
from crumb.stream.run import open_dataset


def run(words: Sequence[str]) -> None:
    """Parse, run what is not done yet, print and write tables and pictures."""
    doc = f"{CompareConfig.__doc__} The same call goes on after an interruption."
    parsed = parse_parts(
        "crumb compare",
        doc,
        words,
        Preset("", {}),
        compare=CompareConfig(dataset=tyro.MISSING),
        network=NetworkConfig(),
    )
    config: CompareConfig = parsed.compare
    dataset = open_dataset(config.dataset, config.classes)
    folder = config.output or default_folder("compare", config, parsed.network, dataset)
    marks = {"comparison.md": analysis.MARK, "comparison.csv": ",".join(analysis.LONG_HEAD)}
    check_free({folder / name: mark for name, mark in marks.items()}, "a comparison")
    outcome = compare(config, parsed.network)
    # What is finished is looked at and written as one, so that no call drops the rows of another.
    with outcome.grid.tables():
        comparison = outcome.look()
        if found := any(comparison.records.values()):
            show(comparison)
            print("\n".join(map(str, write(comparison, folder))))
    outcome.grid.end()
    if not found:
        raise InputError("crumb compare", "has no finished run", "; ".join(_all_notes(comparison)))


def show(comparison: Comparison) -> None:
    """Print the tables."""
    for budget in comparison.budgets:
        rows = analysis.table(comparison, budget)
        print(analysis.title(budget))
        print(align([list(analysis.HEAD), *[analysis.cells_of(row) for row in rows]]))
        print("\n".join([*analysis.notes(comparison, budget), ""]))


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Tables and pictures in the folder of a comparison.

    Returns:
        their paths.
    """
    header, rows = analysis.long_table(comparison)
    paths = [folder / "comparison.md", folder / "comparison.csv"]
    write_text(paths[0], analysis.markdown(comparison))
    write_csv(paths[1], rows, header)
    return paths + draw(comparison, folder)


def _all_notes(comparison: Comparison) -> list[str]:
    notes = [note for b in comparison.budgets for note in analysis.notes(comparison, b)]
    return list(dict.fromkeys(notes))
