"""A grid: a folder of cells, each with runs to be done, filled by any number of calls.

What becomes of a cell is the same in every experiment:

================  ================================================================================
a cell            is
================  ================================================================================
cannot be run     found out before anything is run, and reported
diverges          reported by run; its other runs are done
fails             reported; the other cells are done, and the command ends with exit code 2
is busy           (another call is at it) left, and come back to after the others; where no other
                  is left, reported
waits             (another call makes what it starts from) come back to until that is made
is interrupted    kept as far as it is; the same call goes on
================  ================================================================================

Several calls may work on one folder at a time: one lock lets a single one write its tables.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from crumb.data.index import Dataset
from crumb.errors import DivergedError, InputError, setting
from crumb.features.features import FeatureStore
from crumb.files import alone
from crumb.nets.config import NetworkConfig
from crumb.progress import announce
from crumb.stream import tensorboard
from crumb.stream.config import ProtocolConfig
from crumb.stream.job import Job
from crumb.stream.record import RunRecord
from crumb.stream.results import BusyError, Results
from crumb.stream.run import carry_out_all
from crumb.stream.settings import PRETRAINED_RUN, OtherSettingsError

_WAIT = 2.0
"""Seconds until what another call makes is looked at again."""


class Start(Protocol):
    """What a run starts from, and can be made."""

    @property
    def file(self) -> Path:
        """Where it is; there or not."""
        ...

    def job(self) -> Job:
        """What makes it, in the folder of the file."""
        ...


@dataclass(frozen=True)
class Cell:
    """One results folder of a grid.

    Attributes:
        name: in messages and tables.
        job: its runs.
        starts: what runs start from, by number of the run, if it is to be made.
    """

    name: str
    job: Job
    starts: Mapping[int, Start] = field(default_factory=dict)

    def can_start(self, run: int) -> bool:
        """Whether there is all that a run starts from."""
        return run not in self.starts or self.starts[run].file.exists()


class WaitingError(BusyError):
    """Another call makes what a cell starts from."""


@dataclass
class Grid:
    """Cells, and what has become of each; the attributes that are not listed begin empty.

    Attributes:
        folder: with the folders of the cells, and the tables.
        command: ``crumb`` with this command fills it.
        kind: of its cells, before their names in messages.
        cells: that can be run, in the order in which they are.
        impossible: why others cannot be.
        diverged: why runs diverged, by name of the cell and number of the run.
        failed: what cells failed with.
        busy: names of those that other calls were at, when nothing else was left.
        stores: features of the images of cells.
    """

    folder: Path
    command: str
    kind: str = ""
    cells: list[Cell] = field(default_factory=list)
    impossible: dict[str, InputError] = field(default_factory=dict)
    diverged: dict[str, dict[int, DivergedError]] = field(default_factory=dict)
    failed: dict[str, InputError] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    stores: dict[str, FeatureStore] = field(default_factory=dict)
    _stores_of_starts: dict[str, FeatureStore] = field(default_factory=dict)
    _lost: dict[Path, InputError] = field(default_factory=dict)

    @contextmanager
    def arranging(self, name: str, folder: Path | None = None) -> Iterator[None]:
        """A context in which a cell is checked: an InputError says that it cannot be run.

        Args:
            name: of the cell.
            folder: that is named where its results have other settings; that of the cell.

        Raises:
            InputError: the folder of the cell holds results of other settings.
        """
        try:
            yield
        except OtherSettingsError as error:
            _, problem, remedy = error.parts
            if PRETRAINED_RUN not in problem:
                remedy = f"{self.command} with the same settings, or give another "
                remedy += setting("output")
            raise InputError(folder or self.folder / name, problem, remedy) from error
        except InputError as error:
            self.impossible[name] = error

    def fill(self) -> Iterator[Cell]:
        """Do what is left of every cell.

        Yields:
            each cell when all is done that could be; none that another call is at.

        Raises:
            KeyboardInterrupt, Terminated: a signal came; what is done is kept, and the same call
                goes on from there.
        """
        waiting, told = [*self.cells], False
        while waiting:
            later: dict[str, BusyError] = {}
            for number, cell in enumerate(waiting, 1):
                label = f"{self.kind} {cell.name}".strip()
                announce(f"{number} of {len(waiting)}: {label}")
                try:
                    self._carry_on(cell)
                except BusyError as error:
                    later[cell.name] = error
                    continue
                except InputError as error:
                    self.failed[cell.name] = error
                yield cell
            if len(later) == len(waiting):
                if not any(isinstance(error, WaitingError) for error in later.values()):
                    # Waiting for what other calls do is of no use.
                    self.busy.extend(later)
                    return
                if not told:
                    announce("waiting for what another call makes")
                told = True
                time.sleep(_WAIT)
            waiting = [cell for cell in waiting if cell.name in later]

    def _carry_on(self, cell: Cell) -> None:
        job = cell.job
        finished = Results.finished_in(job.folder)
        if job.config.tensorboard:
            tensorboard.write_missing(finished, job.folder)
        done = {record.run for record in finished}
        if done.issuperset(job.task_lists) and not Results.begun_runs_in(job.folder):
            return
        # What follows builds networks before it looks.
        if Results.busy_in(job.folder):
            raise BusyError(job.folder, "is being written by another call", "wait for it")
        diverged = self.diverged[cell.name] = {}
        for run in job.task_lists:
            if run not in done:
                try:
                    self._make_start(cell, run)
                except DivergedError as error:
                    diverged[run] = error
        # Those that are finished stay in the settings that are written, where they can.
        runs = [run for run in job.task_lists if run not in diverged and cell.can_start(run)]
        if runs:
            try:
                diverged |= carry_out_all(job.only(runs), self.stores)
            except InputError as error:
                subject, problem, _ = error.parts
                if subject in {str(start.file) for start in cell.starts.values()}:
                    raise InputError(subject, problem, "remove it: it is made again") from error
                raise

    def _make_start(self, cell: Cell, run: int) -> None:
        if cell.can_start(run):
            return
        start = cell.starts[run]
        if start.file in self._lost:
            raise self._lost[start.file]
        folder = start.file.parent
        if Results.busy_in(folder):
            raise WaitingError(folder, "is being made by another call", "wait for it")
        announce(f"for run {run}: {folder}")
        try:
            diverged = carry_out_all(start.job(), self._stores_of_starts)
        except BusyError as error:
            raise WaitingError(*error.parts) from error
        if diverged:
            # It counts for every cell that starts from it.
            self._lost[start.file] = diverged[run]
            raise diverged[run]

    @contextmanager
    def tables(self) -> Iterator[None]:
        """A context in which no other call reads what is finished and writes the tables."""
        with alone(self.folder):
            yield

    def records(self, cell: Cell) -> list[RunRecord]:
        """The finished runs in the folder of a cell, by number; none where they are damaged."""
        try:
            records = Results.finished_in(cell.job.folder)
        except InputError as error:
            self.failed[cell.name] = error
            return []
        if cell.name in self.busy and {r.run for r in records}.issuperset(cell.job.task_lists):
            self.busy.remove(cell.name)
        return records

    def notes(self) -> dict[str, str]:
        """What is to be said of cells, by name; nothing where all went well."""
        found = {n: f"cannot be run: {error.in_flags()}" for n, error in self.impossible.items()}
        for name, runs in self.diverged.items():
            said = [f"diverged in run {run}: {e.in_flags()}" for run, e in sorted(runs.items())]
            found |= {name: "; ".join(said)} if said else {}
        found |= {name: f"failed: {error.in_flags()}" for name, error in self.failed.items()}
        return found | dict.fromkeys(self.busy, "is being run by another call")

    def end(self) -> None:
        """Called after the tables.

        Raises:
            InputError: what the first cell that failed did so with.
        """
        for name, error in self.failed.items():
            subject, problem, remedy = error.parts
            label = f"{self.kind} {name}".strip()
            raise InputError(f"{label}: {subject}", problem, remedy)


def default_folder(
    command: str, config: ProtocolConfig, network: NetworkConfig, dataset: Dataset
) -> Path:
    """outputs/<data set>/<command>_<protocol>_<mode>_<backbone>."""
    name = f"{command}_{config.protocol}_{config.mode}_{network.backbone}"
    return Path("outputs") / dataset.name / name
