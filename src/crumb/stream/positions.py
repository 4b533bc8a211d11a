"""The progress of unfinished runs, from their checkpoints. Reads no tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

from crumb.errors import InputError
from crumb.files import read_metadata

FORMAT, VERSION = "crumb-checkpoint", 1


@dataclass(frozen=True)
class RunPosition:
    """The progress of an unfinished run.

    Attributes:
        task: the current task, from 0; the number of tasks after the last one.
        tasks: number of tasks; None in checkpoints of old versions.
    """

    task: int
    tasks: int | None


def positions_in(folder: Path) -> dict[int, RunPosition]:
    """The progress of each run with checkpoints in a folder, by run number.

    Raises:
        InputError: all checkpoints of a run are damaged.
    """
    found: dict[int, RunPosition] = {}
    damaged: dict[int, InputError] = {}
    paths = [path for path in folder.glob("run*_*.safetensors") if number_of(path) >= 0]
    for path in sorted(paths, key=number_of, reverse=True):
        run = path.stem.rpartition("_")[0].removeprefix("run")
        if not run.isdecimal() or int(run) in found:
            continue
        try:
            found[int(run)] = _position(path)
        except InputError as error:
            # The process that executes the run removes older checkpoints, and all of them at its
            # end.
            if path.exists():
                damaged[int(run)] = error
    for run in sorted(damaged.keys() - found.keys()):
        raise damaged[run]
    return found


def _position(path: Path) -> RunPosition:
    remedy = "remove it to restart the run"
    meta = read_metadata(path, remedy)
    try:
        _, about = json.loads(meta[FORMAT])
        task, tasks = about["task"], about.get("tasks")
        if type(task) is not int or type(tasks) not in (int, NoneType):
            raise TypeError(f"task {task!r} of {tasks!r}")
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(path, f"is damaged ({error!r})", remedy) from error
    return RunPosition(task, tasks)


def number_of(path: Path) -> int:
    """Number of a checkpoint by its file's name; -1 where it is none."""
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1
