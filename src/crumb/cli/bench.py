"""``crumb bench``: what Crumb costs, as ratios within one call."""

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
    """Measure what Crumb costs, as ratios between two ways of doing the same thing.

    Each ratio is that of two medians of the same call, so that it can be compared between
    machines. Let nothing else run meanwhile.
    """

    rows: tuple[Row, ...] = ROWS
    """What to measure."""
    dataset: Path | None = None
    """Folder written by `crumb index`; the package's sample clips by default."""
    runs: int = 10
    """How many runs the experiment has."""
    repeats: int = 5
    """Turns of each contestant, of which the median counts (whole runs have one turn)."""
    json: Path | None = None
    """File for all numbers."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        check_runs("runs", 0, self.runs)
        at_least("repeats", self.repeats, 1, _MAX_REPEATS)
        if not self.rows:
            raise InputError("--rows", "names no row", f"choose some of {', '.join(ROWS)}")


def run(words: Sequence[str]) -> None:
    """Measure, print the table, write the file."""
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
    """A line for each comparison, and the notes below."""
    notes = dict.fromkeys(f"{c.row}: {c.note}" for c in comparisons if c.note)
    lines = [comparison.cells() for comparison in comparisons]
    return "\n".join([plain(HEADER, lines).text(), *notes])
