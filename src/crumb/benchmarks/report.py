"""Measured ratios, facts about the machine, and the JSON file."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from crumb.device import cores
from crumb.errors import InputError
from crumb.files import write_json

FORMAT, VERSION = "crumb-bench", 1


@dataclass(frozen=True)
class Figure:
    """A measured value.

    Attributes:
        name: name of what was measured.
        value: value in units of ``unit``.
        unit: ``s`` or ``MB`` (10^6 bytes).
    """

    name: str
    value: float
    unit: str = "s"

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} {self.unit}"


@dataclass(frozen=True)
class Comparison:
    """A ratio of two figures, or the reason why there is none.

    Attributes:
        row: row of the suite, e.g. ``step``.
        what: description of the measurement and its conditions.
        figures: two figures, of which the first is divided by the second. None without measurement.
        at_least: smallest acceptable ratio.
        at_most: largest acceptable ratio.
        details: further data for the file.
        note: remark for readers of the table.
    """

    row: str
    what: str
    figures: Sequence[Figure] = ()
    at_least: float | None = None
    at_most: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The first figure divided by the second."""
        return self.figures[0].value / self.figures[1].value if self.figures else None

    def cells(self) -> list[str]:
        """The line of the table below ``HEADER``."""
        ratio = "-" if self.ratio is None else f"{self.ratio:.3g}"
        bounds = ((">=", self.at_least), ("<=", self.at_most))
        wanted = " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
        raw = " / ".join(map(str, self.figures))
        return [f"{self.row}: {self.what}", ratio, wanted or "-", raw or "-"]

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "row": self.row,
            "what": self.what,
            "ratio": self.ratio,
            "figures": [vars(figure) for figure in self.figures],
            "at_least": self.at_least,
            "at_most": self.at_most,
            "details": dict(self.details),
            "note": self.note,
        }


HEADER = ("row: what", "ratio", "wanted", "measured")


def machine(device: str) -> dict[str, Any]:
    """Facts about the machine that affect timings."""
    on_gpu = device.startswith("cuda")
    return {
        "cpu": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else device,
        "date": datetime.now(UTC).date().isoformat(),
    }


def headline(facts: Mapping[str, Any]) -> str:
    """The machine in one line."""
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, "
        f"torch {facts['torch']}, {facts['device']}, {facts['date']}"
    )


def _processor() -> str:
    """Name of the CPU on Linux; elsewhere its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


def check_writable(path: Path) -> None:
    """Refuse a path to which the results could not be written at the end.

    Raises:
        InputError: the folder is missing, or the path is a folder.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"--json {path}", "is not a file in an existing folder", _REMEDY)


_REMEDY = "give --json another file, or free space"


def write(path: Path, facts: Mapping[str, Any], comparisons: Sequence[Comparison]) -> None:
    """Write machine and comparisons as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [comparison.as_json() for comparison in comparisons]
    content = {"format": FORMAT, "version": VERSION, "machine": dict(facts), "rows": rows}
    write_json(path, content, _REMEDY)
