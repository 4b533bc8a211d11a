"""``crumb report``: one page about results, with tables, figures and how sure it all is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import parse
from crumb.cli.tables import check_free
from crumb.errors import InputError
from crumb.files import write_text
from crumb.kinds import Argument
from crumb.reports.page import MARK, draw
from crumb.reports.panels import Panel, write_panel
from crumb.reports.reader import gather

_OF_A_FIGURE = '{\n  "format": "crumb-figure"'
"""How the file begins that is written last of a figure."""


@dataclass(frozen=True)
class ReportConfig:
    """Write one page about results: what was run, what won, by how much, and how sure it is."""

    runs: Annotated[tuple[Path, ...], Argument(positional=True, metavar="RUNS ...")] = (
        Path("outputs"),
    )
    """Results folders of `crumb stream`, or folders that contain such, as `crumb compare` and
    `crumb ablate` write them; outputs by default."""
    output: Annotated[Path, Argument(alias="-o")] = Path("report.html")
    """The page."""
    baseline: str | None = None
    """Result or method to compare the others with; by default the run that nothing was taken
    from, the only result of CRUMB, or the best."""
    figures: Path | None = None
    """Folder of the figures as PNG, SVG and CSV; <page>_figures beside the page by default."""


def run(words: Sequence[str]) -> None:
    """Parse, read the results, write figures and page, print where they are."""
    config = parse(ReportConfig, words, "crumb report")
    page = config.output
    folder = config.figures or page.with_name(f"{page.stem}_figures")
    _check_page(page)
    drawn = draw(gather(config.runs, config.baseline))
    _check_figures(drawn.panels, folder)
    for panel in drawn.panels:
        write_panel(panel, folder)
    write_text(page, drawn.html)
    print(f"report: {page}")
    print(f"figures: {folder} ({len(drawn.panels)}, each as PNG, SVG and CSV)")


def _check_page(page: Path) -> None:
    """Refuse a folder, and a file that is no report of ours."""
    if page.is_dir():
        raise InputError(f"--output {page}", "is a folder", "give the name of a file in it")
    check_free({page: MARK}, "a report")


def _check_figures(panels: Sequence[Panel], folder: Path) -> None:
    """Refuse to write over files that are of no figure."""
    for panel in panels:
        about = folder / f"{panel.name}.json"
        check_free({about: _OF_A_FIGURE}, "a figure")
        for kind in (".png", ".svg", ".csv"):
            path = about.with_suffix(kind)
            if path.exists() and not about.exists():
                problem = "is of no figure, and would be overwritten"
                raise InputError(path, problem, "move it, or choose another --figures")
