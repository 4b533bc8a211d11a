"""What tuning found: the trials as a table, the chosen values as a preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crumb.errors import InputError
from crumb.files import read_toml, write_csv, write_toml
from crumb.methods.registry import find_method

TUNED, LOG = "tuned.toml", "trials.csv"
FORMAT, VERSION = "crumb-tuned", 1


@dataclass(frozen=True)
class Trial:
    """One setting of what is searched, and how well it did.

    Attributes:
        number: from 0, which is the settings as they were given.
        values: by name of the setting.
        accuracy: percent, on clips held out of training ones, the mean over tasks of that on all
            classes so far; None if the trial failed.
        seconds: of learning and storing; None if it failed.
        failed: where it was no longer finite, and what.
    """

    number: int
    values: Mapping[str, float]
    accuracy: float | None = None
    seconds: float | None = None
    failed: str = ""


def best(trials: Sequence[Trial]) -> Trial:
    """The most accurate one, the earliest among equals.

    Raises:
        InputError: all of them failed.
    """
    finished = [(trial.accuracy, trial) for trial in trials if trial.accuracy is not None]
    if not finished:
        raise InputError("--lr", "is too large: every trial diverged", "give a smaller one")
    return max(finished, key=lambda pair: pair[0])[1]


def write_log(path: Path, trials: Sequence[Trial]) -> None:
    """Write one row a trial: number, values, accuracy, seconds, why it failed.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [[t.number, *t.values.values(), t.accuracy, t.seconds, t.failed] for t in trials]
    write_csv(path, rows, ["trial", *trials[0].values, "accuracy", "seconds", "failed"])


def write_tuned(path: Path, method: str, trial: Trial, about: Mapping[str, Any]) -> None:
    """Write the values of a trial so that they can be given as ``--preset``.

    Args:
        path: of the file.
        method: by name.
        trial: whose values are chosen.
        about: what they were searched on, for readers.

    Raises:
        InputError: the file cannot be written.
    """
    head = {"format": FORMAT, "version": VERSION, "trial": trial.number, "accuracy": trial.accuracy}
    sections = {"stream": {"method": method}, "method": dict(trial.values)}
    write_toml(path, {"about": {**head, **about}, **sections})


def read_tuned(path: Path, method: str) -> dict[str, float]:
    """The values that were chosen for a method, by name of the setting.

    Args:
        path: the file, or the folder that tuning wrote it into.
        method: by name.

    Raises:
        InputError: there is no such file, or it is of another form, version or method, or a value
            in it is one that the method does not take.
    """
    file = path / TUNED if path.is_dir() else path
    remedy = f"give what crumb tune {method} wrote"
    sections = read_toml(file, remedy)
    about, stream, values = (_table(sections, name) for name in ("about", "stream", "method"))
    if about.get("format") != FORMAT:
        raise InputError(file, f"is not of the format {FORMAT!r}", remedy)
    if about.get("version") != VERSION:
        problem = f"has version {about.get('version')!r}, this program reads {VERSION}"
        raise InputError(file, problem, remedy)
    if stream.get("method") != method:
        raise InputError(file, f"is of the method {stream.get('method')!r}", remedy)
    known = find_method(method).Config
    for name, value in values.items():
        if name not in known.__dataclass_fields__:
            raise InputError(f"{file}, method", f"has an unknown key {name!r}", remedy)
        if type(value) not in (int, float):
            raise InputError(f"{file}, method.{name}", f"is {value!r}", "give a number")
    if "lr" not in values:
        raise InputError(f"{file}, method", "has no lr", remedy)
    return {name: float(value) for name, value in values.items()}


def _table(sections: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = sections.get(name)
    return found if isinstance(found, Mapping) else {}
