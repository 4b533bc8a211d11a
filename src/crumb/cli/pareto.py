"""``crumb pareto``: which results no other beats in both accuracy and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import parse
from crumb.cli.tables import check_figures
from crumb.errors import InputError
from crumb.kinds import Argument
from crumb.reports.costs import front_table, panels_of_experiment
from crumb.reports.panels import write_panel
from crumb.reports.reader import gather
from crumb.reports.wording import experiment_title, file_prefixes


@dataclass(frozen=True)
class ParetoConfig:
    """Draw final accuracy against bytes and against learning seconds, with the Pareto front."""

    results: Annotated[tuple[Path, ...], Argument(positional=True, metavar="RESULTS ...")] = (
        Path("outputs"),
    )
    """Results folders of `crumb stream`, or folders that contain some, such as those of `crumb
    compare`."""
    output: Annotated[Path, Argument(alias="-o")] = Path("pareto")
    """Folder for the figures as PNG, SVG and CSV."""


def run(words: Sequence[str]) -> None:
    """Print one table for each stream, and write its figures."""
    config = parse(ParetoConfig, words, "crumb pareto")
    report = gather(config.results)
    panels, tables = [], []
    for one, prefix in zip(report.experiments, file_prefixes(report), strict=True):
        if drawn := panels_of_experiment(one, prefix):
            panels += drawn
            tables.append(f"{experiment_title(one)}\n{front_table(one).text()}\n")
    if not panels:
        folders = " ".join(map(str, config.results))
        raise InputError(folders, "has one result for each stream", "give several to compare")
    if config.output.exists() and not config.output.is_dir():
        raise InputError(f"--output {config.output}", "is a file", "give the name of a folder")
    check_figures(panels, config.output, "--output")
    for panel in panels:
        write_panel(panel, config.output)
    print("\n".join(tables))
    print(f"figures: {config.output} ({len(panels)}, each as PNG, SVG and CSV)")
