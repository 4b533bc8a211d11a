"""``crumb bench``: measure what Crumb costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crumb.benchmarks.report import HEADER, Comparison, check_writable, headline, machine, write
from crumb.benchmarks.suite import ROWS, Row, measure
from crumb.benchmarks.workplace import Setting
from crumb.cli.parsing import parse
from crumb.device import choose_device
from crumb.errors import InputError
from crumb.nets.config import NetworkConfig
from crumb.reports.table import plain
from crumb.stream.config import at_least, check_runs

_MAX_REPEATS = 10_000


@dataclass(frozen=True)
class Bench:
    """Measure the cost of Crumb as ratios between two ways of doing the same work.

    Each ratio compares two medians of the same call, so it can be compared between machines. Run
    nothing else at the same time.
    """

    rows: tuple[Row, ...] = ROWS
    """Benchmarks to run."""
    dataset: Path | None = None
    """Folder written by `crumb index`. Default: the package's sample clips."""
    runs: int = 10
    """Number of runs in the experiment."""
    repeats: int = 5
    """Repetitions of each variant; the median is reported (whole runs are timed once)."""
    json: Path | None = None
    """JSON file for all numbers."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        check_runs("runs", 0, self.runs)
        at_least("repeats", self.repeats, 1, _MAX_REPEATS)
        if not self.rows:
            raise InputError("--rows", "is empty", f"choose some of {', '.join(ROWS)}")


def run(words: Sequence[str]) -> None:
    """Run the benchmarks, print the table and write the file."""
    command = parse(Bench, words, "crumb bench")
    device = choose_device(command.device)
    setting = Setting(command.network, command.dataset, command.runs, command.repeats, device)
    facts = machine(device)
    print(headline(facts))
    if command.json is not None:
        check_writable(command.json)
    comparisons = measure(command.rows, setting)
    print(table(comparisons))
    if command.json is not None:
        write(command.json, facts, comparisons)
        print(f"all numbers: {command.json}")


def table(comparisons: Sequence[Comparison]) -> str:
    """One line per comparison, with the notes below."""
    notes = dict.fromkeys(f"{c.row}: {c.note}" for c in comparisons if c.note)
    lines = [comparison.cells() for comparison in comparisons]
    return "\n".join([plain(HEADER, lines).text(), *notes])
