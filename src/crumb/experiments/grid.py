"""A grid: a folder of cells with runs, filled by any number of calls.

How failed runs are handled is the same in every experiment:

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

Several calls may work on one folder at a time. A lock lets only one write the tables.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from crumb.data.index import Dataset
from crumb.errors import DivergedError, InputError, setting
from crumb.features.features import FeatureStore
from crumb.locks import alone
from crumb.nets.config import NetworkConfig
from crumb.nets.fronts import RefusedEngineError
from crumb.progress import announce
from crumb.stream import tensorboard
from crumb.stream.config import ProtocolConfig, TasksConfig
from crumb.stream.job import Job
from crumb.stream.learner import Networks, with_settled_engine
from crumb.stream.record import RunRecord
from crumb.stream.results import BusyError, Results
from crumb.stream.run import carry_out_all, with_engine_of
from crumb.stream.settings import CONFIG, PRETRAINED_RUN, OtherSettingsError

_WAIT = 2.0
"""Seconds between checks for the results of another call."""


class Start(Protocol):
    """A file that a run starts from and that can be made."""

    @property
    def file(self) -> Path:
        """Its path, whether it exists or not."""
        ...

    def job(self) -> Job:
        """The job that makes it, in the folder of the file."""
        ...


@dataclass(frozen=True)
class Cell:
    """One results folder of a grid.

    Attributes:
        name: name in messages and tables.
        job: job with its runs.
        starts: files that runs start from and that must be made, by run number.
    """

    name: str
    job: Job
    starts: Mapping[int, Start] = field(default_factory=dict)

    def can_start(self, run: int) -> bool:
        """Whether the file that a run starts from exists."""
        return run not in self.starts or self.starts[run].file.exists()


class WaitingError(BusyError):
    """Raised if another call is making the file that a cell starts from."""


@dataclass
class Grid:
    """Cells and their states. Unlisted attributes start empty.

    Attributes:
        folder: folder of the cells' folders and the tables.
        command: subcommand of ``crumb`` that fills it.
        kind: word for a cell before its name in messages.
        cells: valid cells, in execution order.
        impossible: errors of invalid cells.
        diverged: errors of diverged runs, by cell name and run number.
        failed: errors of failed cells.
        busy: names of cells that other calls were still running at the end.
        stores: feature stores of the cells.
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
        """Context for checking a cell: records an InputError as the reason why it cannot run.

        Args:
            name: name of the cell.
            folder: folder to name if its results have other settings. Default: the cell's.

        Raises:
            InputError: the folder of the cell holds results with other settings.
        """
        try:
            yield
        except OtherSettingsError as error:
            _, problem, remedy = error.parts
            if PRETRAINED_RUN not in problem:
                remedy = f"{self.command} with the same settings, or give another "
                remedy += setting("output")
            raise InputError(folder or self.folder / name, problem, remedy) from error
        except RefusedEngineError as error:
            # The other cells may have results with this engine.
            begun = any(self.folder.glob(f"**/{CONFIG}"))
            self.impossible[name] = error.for_results() if begun else error
        except InputError as error:
            self.impossible[name] = error

    def fill(self) -> Iterator[Cell]:
        """Do the missing runs of every cell.

        Yields:
            each cell when all its possible runs are done, except cells of other calls.

        Raises:
            KeyboardInterrupt, Terminated: a signal arrived; finished work is kept, and the same
                call resumes.
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
                    # Waiting for other calls is pointless here.
                    self.busy.extend(later)
                    return
                if not told:
                    announce("waiting for a file that another call is making")
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
        # Check now, because the next step builds networks first.
        if Results.busy_in(job.folder):
            raise BusyError(job.folder, "is being written by another call", "wait for it")
        diverged = self.diverged[cell.name] = {}
        for run in job.task_lists:
            if run not in done:
                try:
                    self._make_start(cell, run)
                except DivergedError as error:
                    diverged[run] = error
        # Keep finished runs in the recorded settings if possible.
        runs = [run for run in job.task_lists if run not in diverged and cell.can_start(run)]
        if runs:
            try:
                diverged |= carry_out_all(job.only(runs), self.stores)
            except InputError as error:
                subject, problem, _ = error.parts
                if subject in {str(start.file) for start in cell.starts.values()}:
                    raise InputError(
                        subject, problem, "remove it, and it will be made again"
                    ) from error
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
            # The error affects every cell that starts from it.
            self._lost[start.file] = diverged[run]
            raise diverged[run]

    @contextmanager
    def tables(self) -> Iterator[None]:
        """Context with the lock for reading finished runs and writing tables."""
        with alone(self.folder):
            yield

    def records(self, cell: Cell) -> list[RunRecord]:
        """The finished runs in the folder of a cell, by number; empty if damaged."""
        try:
            records = Results.finished_in(cell.job.folder)
        except InputError as error:
            self.failed[cell.name] = error
            return []
        if cell.name in self.busy and {r.run for r in records}.issuperset(cell.job.task_lists):
            self.busy.remove(cell.name)
        return records

    def notes(self) -> dict[str, str]:
        """Notes on cells with problems, by name."""
        found = {n: f"cannot be run: {error.in_flags()}" for n, error in self.impossible.items()}
        for name, runs in self.diverged.items():
            said = [f"diverged in run {run}: {e.in_flags()}" for run, e in sorted(runs.items())]
            found |= {name: "; ".join(said)} if said else {}
        found |= {name: f"failed: {error.in_flags()}" for name, error in self.failed.items()}
        return found | dict.fromkeys(self.busy, "is being run by another call")

    def end(self) -> None:
        """Finish after the tables are written.

        Raises:
            InputError: the error of the first failed cell.
        """
        for name, error in self.failed.items():
            subject, problem, remedy = error.parts
            label = f"{self.kind} {name}".strip()
            raise InputError(f"{label}: {subject}", problem, remedy)


def with_one_engine(
    network: NetworkConfig,
    config: TasksConfig,
    seed: int,
    cells: Iterable[Path],
    networks: Networks,
) -> NetworkConfig:
    """A network with the engine of all cells: their accuracies may differ in the last digits.

    Args:
        network: configuration of the backbone; an engine that it names is kept.
        config: configuration of the grid.
        seed: number of the first run.
        cells: folders of cells. The engine is that of the first one with runs, or else what
            ``auto`` comes to on this machine.
        networks: cache of built networks.
    """
    if network.engine != "auto":
        return network
    for folder in sorted(cells):
        if (found := with_engine_of(network, folder)).engine != "auto":
            return found
    # What is wrong with the network is told for each cell.
    with suppress(InputError):
        return with_settled_engine(network, config.machine, seed, networks)
    return network


def default_folder(
    command: str, config: ProtocolConfig, network: NetworkConfig, dataset: Dataset
) -> Path:
    """outputs/<data set>/<command>_<protocol>_<mode>_<backbone>."""
    name = f"{command}_{config.protocol}_{config.mode}_{network.backbone}"
    return Path("outputs") / dataset.name / name
