"""``crumb report``: one page about results with tables, figures and statistical tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import parse
from crumb.cli.tables import check_figures, check_free
from crumb.errors import InputError
from crumb.files import write_text
from crumb.kinds import Argument
from crumb.reports.page import MARK, draw
from crumb.reports.panels import write_panel
from crumb.reports.reader import gather
from crumb.reports.report_tables import LATEX_MARK, latex


@dataclass(frozen=True)
class ReportConfig:
    """Write an HTML report on results: what ran, what was best, by how much, how certain it is."""

    runs: Annotated[tuple[Path, ...], Argument(positional=True, metavar="RUNS ...")] = (
        Path("outputs"),
    )
    """Results folders of `crumb stream`, or folders that contain some, such as those of `crumb
    compare` and `crumb ablate`."""
    output: Annotated[Path, Argument(alias="-o")] = Path("report.html")
    """HTML file to write."""
    baseline: str | None = None
    """Result or method to compare the others with. Default: the unablated run, else the only result
    of CRUMB, else the best."""
    figures: Path | None = None
    """Folder for the figures as PNG, SVG and CSV. Default: <page>_figures next to the page."""
    latex: bool = False
    """Also write the tables of results and comparisons as LaTeX, to <page>.tex next to the page.
    They need the package booktabs."""


def run(words: Sequence[str]) -> None:
    """Read the results, write the figures and the page, and print their paths."""
    config = parse(ReportConfig, words, "crumb report")
    page = config.output
    folder = config.figures or page.with_name(f"{page.stem}_figures")
    tables = page.with_suffix(".tex")
    _check_page(page)
    if config.latex:
        _check_tables(tables, page)
    report = gather(config.runs, config.baseline)
    drawn = draw(report)
    check_figures(drawn.panels, folder, "--figures")
    for panel in drawn.panels:
        write_panel(panel, folder)
    write_text(page, drawn.html)
    if config.latex:
        write_text(tables, latex(report))
    print(f"report: {page}")
    print(f"figures: {folder} ({len(drawn.panels)}, each as PNG, SVG and CSV)")
    if config.latex:
        print(f"tables: {tables}")


def _check_page(page: Path) -> None:
    """Refuse a folder, or a file that is not a report written by Crumb."""
    if page.is_dir():
        raise InputError(f"--output {page}", "is a folder", "give a file name")
    check_free({page: MARK}, "a report")


def _check_tables(tables: Path, page: Path) -> None:
    """Refuse a file that is not LaTeX written by Crumb."""
    if tables == page:
        problem = "is also the name of the LaTeX file"
        raise InputError(f"--output {page}", problem, "give a name that ends in .html")
    check_free({tables: LATEX_MARK}, "a report")
