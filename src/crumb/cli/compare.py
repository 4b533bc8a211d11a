"""``crumb compare``: compare methods with the same memory budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crumb.cli.parsing import Preset, parse_parts
from crumb.cli.tables import check_free
from crumb.errors import InputError
from crumb.experiments.compare import CompareConfig, Comparison, compare
from crumb.experiments.grid import default_folder
from crumb.files import write_bytes, write_text
from crumb.kinds import UNSET
from crumb.nets.config import NetworkConfig
from crumb.reports import comparison as tables
from crumb.reports.costs import cost_of_all
from crumb.reports.figures import accuracy_of_all
from crumb.reports.panels import as_png
from crumb.stream.tasks import open_dataset


def run(words: Sequence[str]) -> None:
    """Run the missing runs, then print and write tables and figures."""
    doc = f"{CompareConfig.__doc__} Repeat the same call to resume after an interruption."
    parsed = parse_parts(
        "crumb compare",
        doc,
        words,
        Preset("", {}),
        compare=CompareConfig(dataset=UNSET),
        network=NetworkConfig(),
    )
    config: CompareConfig = parsed.compare
    dataset = open_dataset(config.dataset, config.classes)
    folder = config.output or default_folder("compare", config, parsed.network, dataset)
    marks = {"comparison.md": tables.MARK, "comparison.csv": ",".join(tables.LONG_HEAD)}
    check_free({folder / name: mark for name, mark in marks.items()}, "a comparison")
    outcome = compare(config, parsed.network)
    # Read the finished runs and write the tables under one lock, so that parallel calls keep each
    # other's rows.
    with outcome.grid.tables():
        comparison = outcome.look()
        if found := any(comparison.records.values()):
            print(tables.text(comparison))
            print("\n".join(map(str, write(comparison, folder))))
    outcome.grid.end()
    if not found:
        notes = [note for _, _, notes in tables.sections(comparison) for note in notes]
        raise InputError("crumb compare", "has no finished run", "; ".join(dict.fromkeys(notes)))


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the tables and figures of a comparison.

    Args:
        comparison: with at least one finished run.
        folder: folder of the comparison.

    Returns:
        their paths.
    """
    results = tables.results_of(comparison)
    pictures = {
        "accuracy_over_tasks": accuracy_of_all(
            [*filter(None, tables.families(comparison).values())]
        ),
        "accuracy_by_bytes": cost_of_all(results, "bytes"),
        "accuracy_by_seconds": cost_of_all(results, "seconds"),
    }
    paths = [folder / name for name in ("comparison.md", "comparison.csv")]
    write_text(paths[0], tables.markdown(comparison))
    write_text(paths[1], tables.long_table(comparison).csv())
    for name, figure in pictures.items():
        paths.append(folder / f"{name}.png")
        write_bytes(paths[-1], as_png(figure))
    return paths
