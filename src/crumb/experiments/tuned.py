"""Results of a search: the table of trials, and the chosen values as a preset."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crumb.errors import InputError, setting
from crumb.files import read_text, read_toml, write_csv, write_toml
from crumb.methods.registry import find_method

TUNED, LOG = "tuned.toml", "trials.csv"
FORMAT, VERSION = "crumb-tuned", 1


@dataclass(frozen=True)
class Trial:
    """One trial: settings and result.

    Attributes:
        number: number from 0; trial 0 uses the given settings.
        values: values by name of the setting.
        accuracy: average accuracy in percent on held-out training clips, over all classes so far
            and averaged over tasks; None if the trial failed.
        seconds: seconds of learning and storing; None if it failed.
        failed: where it diverged, and which value.
    """

    number: int
    values: Mapping[str, float]
    accuracy: float | None = None
    seconds: float | None = None
    failed: str = ""


@dataclass(frozen=True)
class Tuned:
    """The chosen values of a method.

    Attributes:
        values: values by name of the setting.
        about: the search conditions in the file: data set, protocol, backbone, ...
    """

    values: Mapping[str, float]
    about: Mapping[str, Any]


def best(trials: Sequence[Trial]) -> Trial:
    """The most accurate trial; ties go to the earliest.

    Raises:
        InputError: all trials failed.
    """
    finished = [(trial.accuracy, trial) for trial in trials if trial.accuracy is not None]
    if not finished:
        raise InputError(setting("lr"), "is too large: every trial diverged", "give a smaller one")
    return max(finished, key=lambda pair: pair[0])[1]


def write_log(path: Path, trials: Sequence[Trial]) -> None:
    """Write one row per trial: number, values, accuracy, seconds, failure.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [[t.number, *t.values.values(), t.accuracy, t.seconds, t.failed] for t in trials]
    write_csv(path, rows, ["trial", *trials[0].values, "accuracy", "seconds", "failed"])


def read_failed(path: Path) -> list[Trial]:
    """Read the failed trials from a log.

    Raises:
        InputError: the file cannot be read or is not a log.
    """
    remedy = "remove it"
    failed = []
    try:
        for row in csv.DictReader(io.StringIO(read_text(path, remedy))):
            number, why = int(row.pop("trial")), row.pop("failed")
            del row["accuracy"], row["seconds"]
            if why:
                values = {name: float(value) for name, value in row.items()}
                failed.append(Trial(number, values, failed=why))
    except (LookupError, TypeError, ValueError, csv.Error) as error:
        raise InputError(path, "is not a table of trials", remedy) from error
    return failed


def write_tuned(path: Path, method: str, trial: Trial, about: Mapping[str, Any]) -> None:
    """Write the values of a trial as a preset.

    Args:
        path: file to write.
        method: name of the method.
        trial: the chosen trial.
        about: search conditions; None values are left out.

    Raises:
        InputError: the file cannot be written.
    """
    head = {"format": FORMAT, "version": VERSION, "trial": trial.number, "accuracy": trial.accuracy}
    known = {name: value for name, value in about.items() if value is not None}
    sections = {"stream": {"method": method}, "method": dict(trial.values)}
    write_toml(path, {"about": {**head, **known}, **sections})


def read_tuned(
    path: Path,
    method: str,
    backbone: str | None = None,
    mode: str | None = None,
    budget: int | None = None,
) -> Tuned:
    """Read the chosen values of a method.

    Args:
        path: the file, or the results folder of the search.
        method: name of the method.
        backbone: required backbone of the search; None for any.
        mode: required mode of the search; None for any.
        budget: required memory budget of the search in bytes; None for any.

    Raises:
        InputError: the file is missing; of another format, version, method, backbone, mode or
            budget; or it holds an unsearched setting or an invalid value.
    """
    file = path / TUNED if path.is_dir() else path
    remedy = f"give what crumb tune {method} wrote"
    sections = read_toml(file, remedy)
    about, stream, values = (_table(sections, name) for name in ("about", "stream", "method"))
    if about.get("format") != FORMAT:
        raise InputError(file, f"is not of the format {FORMAT!r}", remedy)
    if about.get("version") != VERSION:
        problem = f"has version {about.get('version')!r}, but this version of Crumb reads {VERSION}"
        raise InputError(file, problem, remedy)
    if stream.get("method") != method:
        raise InputError(file, f"is for the method {stream.get('method')!r}", remedy)
    for name, wanted in (("backbone", backbone), ("mode", mode), ("budget_bytes", budget)):
        if wanted is not None and about.get(name) != wanted:
            problem = f"was tuned with {setting(name, about.get(name))}, not {wanted}"
            if name not in about:
                problem = f"was tuned without {setting(name)}"
            raise InputError(file, problem, f"give a file tuned with {setting(name, wanted)}")
    about = {name: value for name, value in about.items() if name not in ("format", "version")}
    return Tuned(_checked(values, method, file, remedy), about)


def _checked(values: Mapping[str, Any], method: str, file: Path, remedy: str) -> dict[str, float]:
    """The values as numbers, checked to be searched settings with valid values."""
    kind = find_method(method)
    found = {}
    for name, value in values.items():
        if name not in kind.searched():
            raise InputError(f"{file}, method", f"has an unknown key {name!r}", remedy)
        if type(value) not in (int, float):
            raise InputError(f"{file}, method.{name}", f"is {value!r}", "give a number")
        try:
            found[name] = float(value)
        except OverflowError as error:
            raise InputError(f"{file}, method.{name}", "is too large", "give less") from error
    if kind.trains and "lr" not in values:
        raise InputError(f"{file}, method", "has no lr", remedy)
    try:
        kind.Config(**found)
    except InputError as error:
        subject, *rest = error.parts
        raise InputError(f"{file}, method: {subject}", *rest) from error
    return found


def _table(sections: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = sections.get(name)
    return found if isinstance(found, Mapping) else {}
