"""Results folders as they lie on the disk: finding them, and reading what is in each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crumb.errors import InputError, printable
from crumb.files import read_toml
from crumb.stream.positions import RunPosition, positions_in
from crumb.stream.record import FORMAT, RunRecord
from crumb.stream.results import Results
from crumb.stream.settings import CONFIG, read_settings


@dataclass(frozen=True)
class ResultsFolder:
    """What is in a results folder.

    Attributes:
        path: of the folder.
        settings: every one by its name, such as ``stream.machine.precision``.
        records: finished runs, by number.
        places: where each run stands that is begun and not finished, by number.
    """

    path: Path
    settings: Mapping[str, Any]
    records: list[RunRecord]
    places: Mapping[int, RunPosition]

    @property
    def command(self) -> str:
        """That made it."""
        return self.settings["command"]

    @property
    def method(self) -> str:
        """By name."""
        return self.settings["stream.method"]

    @property
    def dataset(self) -> str:
        """Name of the folder of the data set."""
        return Path(self.settings["stream.dataset"]).name

    @property
    def protocol(self) -> str:
        """By name."""
        return self.settings["stream.protocol"]

    @property
    def asked(self) -> range:
        """The runs that the last call asked for."""
        first = self.settings["stream.first_run"]
        return range(first, first + self.settings["stream.runs"])

    @property
    def waiting(self) -> list[int]:
        """Those of them that are not begun."""
        known = {record.run for record in self.records} | self.places.keys()
        return [run for run in self.asked if run not in known]

    @property
    def runs(self) -> int:
        """How many there are to be: those asked for, and those of earlier calls."""
        return len(self.records) + len(self.places) + len(self.waiting)


_NEEDED = {
    "command": str,
    "stream.method": str,
    "stream.dataset": str,
    "stream.protocol": str,
    "stream.first_run": int,
    "stream.runs": int,
}


def read_folder(folder: Path) -> ResultsFolder:
    """What is in one results folder.

    Raises:
        InputError: there is none, or its settings, a run or all checkpoints of a run are damaged.
    """
    remedy = "give a results folder; crumb runs FOLDER lists those in it"
    if not folder.is_dir():
        raise InputError(folder, "is no folder", remedy)
    if not ((folder / CONFIG).exists() or Results.begun_in(folder)):
        raise InputError(folder, "is no results folder", remedy)
    settings = read_settings(folder)
    for name, kind in _NEEDED.items():
        if type(settings.get(name)) is not kind:
            problem = f"holds no {name}, or one of another kind"
            raise InputError(folder / CONFIG, problem, "bring it back, or remove the folder")
    # Before the runs: one that is finished in between is in both, and not lost.
    places = positions_in(folder / "checkpoints")
    records = Results.finished_in(folder)
    finished = {record.run for record in records}
    unfinished = {run: place for run, place in sorted(places.items()) if run not in finished}
    return ResultsFolder(folder, settings, records, unfinished)


@dataclass(frozen=True)
class Survey:
    """The results folders below a folder.

    Attributes:
        root: the folder.
        found: those that can be read, by path.
        problems: what is wrong with each of the others, and with folders that cannot be looked
            into, by path.
    """

    root: Path
    found: list[ResultsFolder]
    problems: dict[Path, InputError]

    def name(self, folder: Path) -> str:
        """The path of one of them from the root on."""
        return printable(folder.relative_to(self.root))


def survey(root: Path) -> Survey:
    """Look through a folder and all below it; links to folders are not followed.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        remedy = "name the folder that your results are in"
        raise InputError(root, "is no folder", remedy)
    found: list[ResultsFolder] = []
    problems: dict[Path, InputError] = {}

    def note(error: OSError) -> None:
        problem = f"cannot be looked into ({error.strerror})"
        problems[Path(error.filename)] = InputError(error.filename, problem, "make it readable")

    for name, _, files in os.walk(root, onerror=note):
        folder = Path(name)
        if not _holds_results(folder, files):
            continue
        try:
            found.append(read_folder(folder))
        except InputError as error:
            problems[folder] = error
    found.sort(key=lambda one: one.path)
    return Survey(root, found, dict(sorted(problems.items())))


def _holds_results(folder: Path, files: list[str]) -> bool:
    """Whether a folder is one of results, whole or damaged; other programs have settings too."""
    if Results.begun_in(folder):
        return True
    if CONFIG not in files:
        return False
    try:
        return read_toml(folder / CONFIG, "").get("format") == FORMAT
    except InputError:
        return True
