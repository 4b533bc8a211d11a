"""The settings of each method of a comparison, from files: by hand, or from ``crumb tune``."""

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
        pairs: ``METHOD=FILE`` each.
        names: the compared methods.

    Raises:
        InputError: a pair has no file, or names an unknown method or one for the second time.
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
    """The settings of a method in a TOML file whose keys are its settings, or in a ``tuned.toml``.

    Args:
        file: the file.
        method: name of the method.
        backbone: the backbone, which a search must have had.
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
    """The file ``tuned.toml`` of each cell that has one.

    Args:
        folder: holds ``CELL/tuned.toml``, for a method with one budget, or ``METHOD/tuned.toml``.
        cells: method of each cell by the name of the cell.

    Raises:
        InputError: there is none.
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
