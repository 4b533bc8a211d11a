"""Results of a search: the table of trials, and the chosen values as a preset."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from crumb.errors import InputError, setting
from crumb.files import read_text, read_toml, write_csv, write_toml
from crumb.kinds import as_kind, described
from crumb.methods.registry import find_method

TUNED, LOG = "tuned.toml", "trials.csv"
FORMAT, VERSION = "crumb-tuned", 1
BUDGET = "budget_bytes"
"""Name of the memory budget among the search conditions and the settings of methods."""


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
    values: Mapping[str, Any]
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

    values: Mapping[str, Any]
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
                values = {name: _as_number(value) for name, value in row.items()}
                failed.append(Trial(number, values, failed=why))
    except (LookupError, TypeError, ValueError, csv.Error) as error:
        raise InputError(path, "is not a table of trials", remedy) from error
    return failed


def _as_number(text: str) -> float | str:
    """A value of a table; the text itself is a choice."""
    try:
        return float(text)
    except ValueError:
        return text


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
    required = {"backbone": backbone, "mode": mode, BUDGET: budget}
    refuse_other_search(file, about, {n: one for n, one in required.items() if one is not None})
    about = {name: value for name, value in about.items() if name not in ("format", "version")}
    return Tuned(_checked(values, method, file, remedy), about)


def refuse_other_search(file: object, about: Mapping[str, Any], used: Mapping[str, Any]) -> None:
    """Refuse the settings of a search under other conditions.

    Args:
        file: the file, for the message.
        about: search conditions in the file.
        used: the conditions under which its settings would be used; None for a flag not given.

    Raises:
        InputError: a condition differs.
    """
    for name, wanted in used.items():
        found = about.get(name)
        if found == wanted:
            continue
        how = "without" if wanted is None else str(wanted)
        problem = f"was tuned with {setting(name, found)}, not {how}"
        if found is None:
            problem = f"was tuned without {setting(name)}"
        remedy = f"tuned without {setting(name)}" if wanted is None else ""
        remedy = remedy or f"tuned with {setting(name, wanted)}"
        raise InputError(file, problem, f"give a file {remedy}")


def _checked(values: Mapping[str, Any], method: str, file: Path, remedy: str) -> dict[str, Any]:
    """The values as the settings hold them, checked to be searched and valid."""
    kind = find_method(method)
    hints = get_type_hints(kind.Config)
    found = {}
    for name, value in values.items():
        if name not in kind.searched():
            raise InputError(f"{file}, method", f"has an unknown key {name!r}", remedy)
        try:
            found[name] = as_kind(value, hints[name])
        except TypeError as error:
            where = f"{file}, method.{name}"
            raise InputError(where, f"is {value!r}", f"give {described(hints[name])}") from error
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
