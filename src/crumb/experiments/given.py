"""Settings of the methods of a comparison from files, written by hand or by ``crumb tune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crumb.errors import InputError, about, meant, setting
from crumb.experiments.tuned import BUDGET, FORMAT, TUNED, read_tuned
from crumb.files import read_toml
from crumb.methods.registry import find_method


def files_of(pairs: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """The file of each method.

    Args:
        pairs: pairs of the form ``METHOD=FILE``.
        names: the compared methods.

    Raises:
        InputError: a pair has no file, names a method that is not compared, or repeats a method.
    """
    found: dict[str, Path] = {}
    for pair in pairs:
        name, _, file = pair.partition("=")
        given = setting("settings", pair)
        if not name or not file:
            raise InputError(given, "is not METHOD=FILE", "give for example er=er.toml")
        if name not in names:
            problem = f"is for a method that is not compared{meant(name, names)}"
            raise InputError(given, problem, f"add it to {setting('methods')}")
        if name in found:
            raise InputError(given, f"is the second file of {name}", "give one file a method")
        found[name] = Path(file)
    return found


def read_given(
    file: Path, method: str, backbone: str, mode: str, budget: int | None
) -> Mapping[str, Any]:
    """Read settings of a method from a TOML file of settings, or from a ``tuned.toml``.

    Args:
        file: the file.
        method: name of the method.
        backbone: the backbone. A search must have used the same.
        mode: the mode, likewise.
        budget: memory budget in bytes, likewise; None for a method without exemplars.

    Raises:
        InputError: the file cannot be read, holds an unknown key or an invalid value, or is of
            another search.
    """
    values = read_toml(file, "give a TOML file with settings of the method")
    search = values.get("about")
    if isinstance(search, Mapping) and search.get("format") == FORMAT:
        return read_tuned(file, method, backbone, mode, budget).values
    kind = find_method(method)
    known = kind.Config.__dataclass_fields__
    for name in values:
        if name not in known:
            problem = f"has an unknown key {name!r}{meant(name, known)}"
            remedy = f"use settings of crumb stream --method {method} --help-all"
            raise InputError(file, problem, remedy)
    for name in (BUDGET, "compute_budget"):
        if name in values:
            problem = f"sets {name}, which a comparison gives to every method"
            raise InputError(file, problem, f"remove it and give {setting(name)}")
    with about(file):
        kind.Config(**values, **({} if budget is None else {BUDGET: budget}))
    return values


def tuned_files(folder: Path, cells: Mapping[str, str]) -> dict[str, Path]:
    """Find the file ``tuned.toml`` of each cell that has one.

    Args:
        folder: folder of the files ``CELL/tuned.toml`` (a method with one budget) or
            ``METHOD/tuned.toml``.
        cells: method of each cell, by the name of the cell.

    Raises:
        InputError: there is no such file.
    """
    found: dict[str, Path] = {}
    for cell, method in cells.items():
        paths = [folder / name / TUNED for name in (cell, method)]
        if existing := [path for path in paths if path.exists()]:
            found[cell] = existing[0]
    if not found:
        problem = f"holds no METHOD/{TUNED} of these methods"
        remedy = f"write them with crumb tune METHOD --output {folder}/METHOD"
        raise InputError(setting("tuned", folder), problem, remedy)
    return found
