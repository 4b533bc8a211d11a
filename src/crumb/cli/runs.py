"""``crumb runs``: list results folders, and compare two."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from crumb.cli.flags import HELP
from crumb.cli.parsing import parse
from crumb.errors import InputError, printable
from crumb.files import write_text
from crumb.kinds import Argument
from crumb.reports import runs as tables
from crumb.stream.folders import ResultsFolder, Survey, read_folder, survey

_HELP = """usage: crumb runs [FOLDER] [--csv FILE]
       crumb runs diff A B

List the results folders in a folder (default: outputs), or compare two of them.

  FOLDER      list the results folders in it: finished and unfinished runs, key figures
  --csv FILE  also write the list to a CSV file
  diff A B    settings that differ between two results folders, and their shared runs compared"""


@dataclass(frozen=True)
class ListRuns:
    """List the results folders in a folder: finished and unfinished runs, and key figures."""

    folder: Annotated[Path, Argument(positional=True, metavar="FOLDER")] = Path("outputs")
    """Folder to search for results, at any depth."""
    csv: Path | None = None
    """CSV file to write the list to."""


@dataclass(frozen=True)
class DiffRuns:
    """Compare two results folders: settings that differ, and runs that both have."""

    one: Annotated[Path, Argument(positional=True, metavar="A")]
    """Results folder."""
    other: Annotated[Path, Argument(positional=True, metavar="B")]
    """Another."""


def run(words: Sequence[str]) -> None:
    """List results folders or compare two, depending on the first word."""
    if words and words[0] in HELP:
        print(_HELP)
    elif words and words[0] == "diff":
        _diff(parse(DiffRuns, words[1:], "crumb runs diff"))
    else:
        _list(parse(ListRuns, words, "crumb runs"))


def _list(command: ListRuns) -> None:
    """Print all readable results, then raise InputError if some could not be read."""
    found = survey(command.folder)
    if found.found:
        print(tables.table(found).text(_width()))
    elif not found.problems:
        print(f"{printable(command.folder)} holds no results")
    if command.csv is not None:
        text = tables.long_table(found).csv()
        write_text(command.csv, text, "choose another --csv or free space")
    _refuse(command.folder, found)


def _refuse(folder: Path, found: Survey) -> None:
    """Report the folders that cannot be read: without them the list is incomplete."""
    if len(found.problems) < 2:
        for error in found.problems.values():
            raise error
        return
    print(f"\n{len(found.problems)} folders cannot be read:")
    for error in found.problems.values():
        print(f"  {error.in_flags()}")
    names = ", ".join(map(found.name, found.problems))
    problem = f"holds {len(found.problems)} folders that cannot be read ({names})"
    raise InputError(folder, problem, "see the remedy of each in the list")


def _diff(command: DiffRuns) -> None:
    if command.one.resolve() == command.other.resolve():
        given = f"crumb runs diff {command.one} {command.other}"
        raise InputError(given, "names the same folder twice", "give two results folders")
    one, other = read_folder(command.one), read_folder(command.other)
    result = tables.paired(one, other)
    print("\n".join(f"{name}: {_about(folder)}" for name, folder in (("A", one), ("B", other))))
    for effect, title in (
        (True, "settings that differ"),
        (False, "settings that differ but do not affect results"),
    ):
        table = tables.setting_table(one, other, effect, title)
        if table.rows:
            print(f"\n{table.text(_width())}")
        elif effect:
            print("\nno setting that affects results differs")
    if result.runs:
        print(f"\n{tables.paired_table(result).text()}\n")
    else:
        print("\nno run number is finished in both, so there is nothing to compare")
    print("\n".join(tables.notes(result)))


def _about(one: ResultsFolder) -> str:
    parts = [f"crumb {one.command}", one.method, one.dataset, one.protocol]
    parts.append(f"{len(one.records)} of {one.runs} runs finished")
    return f"{printable(one.path)} ({', '.join(parts)})"


def _width() -> int:
    """Width of the terminal in columns; output to a file or pipe is never wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
