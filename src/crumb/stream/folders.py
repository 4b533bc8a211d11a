"""Find and read results folders on disk."""

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
    """The contents of a results folder.

    Attributes:
        path: path of the folder.
        settings: all settings by name, such as ``stream.machine.precision``.
        records: finished runs, by number.
        places: progress of the unfinished runs, by number.
    """

    path: Path
    settings: Mapping[str, Any]
    records: list[RunRecord]
    places: Mapping[int, RunPosition]

    @property
    def command(self) -> str:
        """Command that made the folder."""
        return self.settings["command"]

    @property
    def method(self) -> str:
        """Its name."""
        return self.settings["stream.method"]

    @property
    def dataset(self) -> str:
        """Name of the folder of the data set."""
        return Path(self.settings["stream.dataset"]).name

    @property
    def protocol(self) -> str:
        """Its name."""
        return self.settings["stream.protocol"]

    @property
    def asked(self) -> range:
        """Numbers of the runs that the last call requested."""
        first = self.settings["stream.first_run"]
        return range(first, first + self.settings["stream.runs"])

    @property
    def waiting(self) -> list[int]:
        """Requested runs that have not started."""
        known = {record.run for record in self.records} | self.places.keys()
        return [run for run in self.asked if run not in known]

    @property
    def runs(self) -> int:
        """Total number of runs: requested ones and those of earlier calls."""
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
    """Read one results folder.

    Raises:
        InputError: the folder is missing, or its settings, a run or all checkpoints of a run are
            damaged.
    """
    remedy = "give a results folder; crumb runs FOLDER lists them"
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", remedy)
    if not ((folder / CONFIG).exists() or Results.begun_in(folder)):
        raise InputError(folder, "is not a results folder", remedy)
    settings = read_settings(folder)
    for name, kind in _NEEDED.items():
        if type(settings.get(name)) is not kind:
            problem = f"has no {name}, or one in another format"
            raise InputError(folder / CONFIG, problem, "restore it or remove the folder")
    # Read checkpoints before finished runs, so that a run that finishes in between is not missed.
    places = positions_in(folder / "checkpoints")
    records = Results.finished_in(folder)
    finished = {record.run for record in records}
    unfinished = {run: place for run, place in sorted(places.items()) if run not in finished}
    return ResultsFolder(folder, settings, records, unfinished)


@dataclass(frozen=True)
class Survey:
    """The results folders found below a folder.

    Attributes:
        root: the folder that was searched.
        found: readable results folders, by path.
        problems: errors of unreadable folders, by path.
    """

    root: Path
    found: list[ResultsFolder]
    problems: dict[Path, InputError]

    def name(self, folder: Path) -> str:
        """Its path relative to the root."""
        return printable(folder.relative_to(self.root))


def survey(root: Path) -> Survey:
    """Search a folder and all its subfolders. Links to folders are not followed.

    Raises:
        InputError: the folder does not exist.
    """
    if not root.is_dir():
        remedy = "give the folder with your results"
        raise InputError(root, "is not a folder", remedy)
    found: list[ResultsFolder] = []
    problems: dict[Path, InputError] = {}

    def note(error: OSError) -> None:
        problem = f"cannot be opened ({error.strerror})"
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
    """Whether this is a results folder, even a damaged one. Other programs have a config.toml
    too.
    """
    if Results.begun_in(folder):
        return True
    if CONFIG not in files:
        return False
    try:
        return read_toml(folder / CONFIG, "").get("format") == FORMAT
    except InputError:
        return True
