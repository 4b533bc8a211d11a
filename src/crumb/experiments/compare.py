"""Compare methods and byte budgets over one stream, in any number of calls."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from crumb.data.index import Dataset
from crumb.data.protocol import TaskList
from crumb.errors import InputError, setting
from crumb.experiments import grid
from crumb.experiments.given import files_of, read_given, tuned_files
from crumb.experiments.grid import Grid, default_folder, with_one_engine
from crumb.kinds import Argument
from crumb.methods.registry import find_method, is_method, methods
from crumb.methods.training import require_compute_budget
from crumb.nets.config import NetworkConfig
from crumb.stream import tensorboard
from crumb.stream.config import ProtocolConfig, StreamConfig, at_least, shared_settings
from crumb.stream.job import Job, check_recorded
from crumb.stream.learner import Networks
from crumb.stream.record import RunRecord
from crumb.stream.results import run_file
from crumb.stream.run import broken_in, lay_out_runs, prepare, stream_job
from crumb.stream.settings import OtherSettingsError, read_settings
from crumb.stream.tasks import open_dataset

ALL = "all"
USUAL_BUDGET = 250_000


@dataclass(frozen=True)
class CompareConfig(ProtocolConfig):
    """Run methods over the same stream with the same memory budget and compare them."""

    dataset: Path
    """Folder written by `crumb index`."""
    methods: tuple[str, ...] = (ALL,)
    """Methods by name, methods of other packages by name or as MODULE:CLASS, or all methods of
    Crumb."""
    budget_bytes: tuple[int, ...] = ()
    """Memory budgets in bytes for exemplars and everything needed to decode them. Default: 250000.
    Methods without exemplars run once for all budgets."""
    compute_budget: int | None = None
    """Number of feature maps through the tail per new image, the same for all methods with replay.
    Default: as many as each method replays by itself."""
    tuned: Path | None = None
    """Folder with METHOD/tuned.toml of `crumb tune` for the tuned methods. With several budgets:
    METHOD_BUDGET/tuned.toml."""
    settings: Annotated[tuple[str, ...], Argument(metavar="METHOD=FILE")] = ()
    """TOML files with the settings of single methods, such as er=er.toml: the keys are the names of
    settings. A tuned.toml works too. Overrides TUNED for these methods."""
    output: Path | None = None
    """Results folder of the comparison. Default: outputs/<data
    set>/compare_<protocol>_<mode>_<backbone>."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for budget in self.budget_bytes:
            at_least("budget_bytes", budget, 1)
        for name, values in (("methods", self.methods), ("budget_bytes", self.budget_bytes)):
            if len(set(values)) != len(values):
                raise InputError(setting(name), "names one twice", "name each once")
        if not self.methods:
            raise InputError(setting("methods"), "is empty", "name methods, or all")
        for name in self.methods:
            if name != ALL:
                find_method(name)
        if ALL in self.methods and len(self.methods) > 1:
            raise InputError(
                setting("methods", "all"),
                "already includes all methods",
                "leave out the other names",
            )
        files_of(self.settings, self.names)
        if self.compute_budget is not None:
            require_compute_budget(self.compute_budget)
        if self.compute_budget is not None and not any(map(replays, self.names)):
            problem = "has no effect with methods that replay nothing"
            raise InputError(
                setting("compute_budget"), problem, "leave it out or name other methods"
            )
        if self.budget_bytes and not self.storing:
            problem = "has no effect with methods that keep no exemplars"
            raise InputError(setting("budget_bytes"), problem, "leave it out or name other methods")

    @property
    def names(self) -> tuple[str, ...]:
        """The requested methods."""
        return tuple(methods()) if self.methods == (ALL,) else self.methods

    @property
    def storing(self) -> tuple[str, ...]:
        """The requested methods that keep exemplars."""
        return tuple(name for name in self.names if find_method(name).stores_exemplars())

    @property
    def cells(self) -> list[Cell]:
        """All cells, budget by budget; methods without exemplars first."""
        found = [Cell(name, None) for name in self.names if name not in self.storing]
        budgets = self.budget_bytes or (USUAL_BUDGET,)
        return found + [Cell(name, budget) for budget in budgets for name in self.storing]


@dataclass(frozen=True)
class Cell:
    """One method with one budget (None for a method without exemplars)."""

    method: str
    budget: int | None

    @property
    def name(self) -> str:
        """Name of its results folder."""
        return self.method if self.budget is None else f"{self.method}_{self.budget}"


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        records: finished runs of each cell, by run number.
        notes: why a cell cannot be run or did not finish.
        given: settings that replace defaults, by cell.
    """

    records: Mapping[Cell, list[RunRecord]]
    notes: Mapping[Cell, str]
    given: Mapping[Cell, Mapping[str, Any]]

    @property
    def budgets(self) -> tuple[int | None, ...]:
        """Budgets in bytes, ascending; only None if no method keeps exemplars."""
        cells = (*self.records, *self.notes)
        return tuple(sorted({cell.budget for cell in cells if cell.budget})) or (None,)


@dataclass(frozen=True)
class Matrix:
    """A comparison: the shared settings of its cells, and their state.

    Attributes:
        config: configuration of the comparison.
        network: configuration of the backbone.
        given: settings that replace defaults, by cell.
        grid: grid of the requested cells.
        dataset: the opened data set.
        task_lists: tasks of streams and of upper bounds, by run number; laid out on first use.
        broken: problems of skipped images, if images may be skipped.
    """

    config: CompareConfig
    network: NetworkConfig
    given: Mapping[Cell, Mapping[str, Any]]
    grid: Grid
    dataset: Dataset
    task_lists: dict[bool, Mapping[int, TaskList]]
    broken: Mapping[str, str] | None

    @property
    def folder(self) -> Path:
        """Results folder of the comparison."""
        return self.grid.folder

    def job(self, cell: Cell) -> Job:
        """The job of a cell.

        Raises:
            InputError: the budget is too small for the method.
        """
        stream = replace(stream_config(self.config, cell, self.folder), resume=True)
        method = self.method_config(cell, self.given_to(cell))
        offline = find_method(cell.method).offline
        if offline not in self.task_lists:
            self.task_lists[offline] = lay_out_runs(self.config, self.dataset, offline)
        tasks = self.task_lists[offline]
        return stream_job(stream, self.network, method, self.dataset, tasks, self.broken)

    def method_config(self, cell: Cell, given: Mapping[str, Any]) -> Any:
        """The settings of one cell: defaults, what replaces them and the budgets.

        Raises:
            InputError: a budget is too small for the method.
        """
        budgets: dict[str, int] = {}
        if cell.budget is not None:
            budgets["budget_bytes"] = cell.budget
        if (maps := self.config.compute_budget) is not None and replays(cell.method):
            budgets["compute_budget"] = maps
        return find_method(cell.method).Config(**given, **budgets)

    def given_to(self, cell: Cell) -> Mapping[str, Any]:
        """Settings of a cell that replace defaults.

        A cell of an earlier call has the settings of that call, except those that are None by
        default: the recorded ones do not tell whether they were given.
        """
        if cell in self.config.cells:
            return self.given.get(cell, {})
        usual, settings = self.method_config(cell, {}), read_settings(self.folder / cell.name)
        recorded = {
            field.name: settings[f"method.{field.name}"]
            for field in fields(usual)
            if getattr(usual, field.name) is not None and f"method.{field.name}" in settings
        }
        with suppress(InputError):
            earlier = replace(usual, **recorded)
            return {
                name: getattr(earlier, name)
                for name in recorded
                if getattr(earlier, name) != getattr(usual, name)
            }
        return {}

    def look(self) -> Comparison:
        """All finished runs in the folder, including those of other calls."""
        config = self.config
        wanted = range(config.first_run, config.first_run + config.runs)
        records: dict[Cell, list[RunRecord]] = {}
        hidden: dict[str, str] = {}
        given = {**self.given}
        cells = [*config.cells, *_earlier(self.folder, config.cells)]
        for cell in cells:
            if cell.name in self.grid.impossible:
                continue
            try:
                job = self.job(cell)
                check_recorded(job)
            except OtherSettingsError as error:
                # Another call started it while this one ran.
                hidden[cell.name] = f"is not in the tables: it {error.problem_in_flags()}"
                continue
            except InputError as error:
                self.grid.failed[cell.name] = error
                continue
            found = self.grid.records(grid.Cell(cell.name, job))
            records[cell] = [record for record in found if record.run in wanted]
            if cell not in config.cells and (values := self.given_to(cell)):
                given[cell] = values
        notes = self.grid.notes() | hidden
        return Comparison(records, {c: notes[c.name] for c in cells if c.name in notes}, given)


def compare(config: CompareConfig, network: NetworkConfig) -> Matrix:
    """Do the missing runs of the comparison and resume interrupted ones.

    Results of earlier calls in the folder are part of the comparison.

    Args:
        config: configuration of the comparison.
        network: configuration of the backbone, the same for all methods.

    Raises:
        InputError: no cell can be run; the folder holds runs with other settings.
        KeyboardInterrupt, Terminated: a signal arrived; the same call resumes.
    """
    if config.tensorboard:
        tensorboard.check_installed()
    networks: Networks = {}
    matrix = _matrix(config, network, networks)
    _arrange(matrix, networks)
    networks.clear()
    for _ in matrix.grid.fill():
        pass
    return matrix


def _arrange(matrix: Matrix, networks: Networks) -> None:
    """The cells that can be run. All cells in the folder must have these settings."""
    asked = matrix.config.cells
    for cell in (*asked, *_earlier(matrix.folder, asked)):
        with matrix.grid.arranging(cell.name):
            job = matrix.job(cell)
            if cell not in asked or all(
                run_file(job.folder, run).exists() for run in job.task_lists
            ):
                check_recorded(job)
            else:
                prepare(job, networks)
            if cell in asked:
                matrix.grid.cells.append(grid.Cell(cell.name, job))
    if not matrix.grid.cells:
        first = matrix.grid.notes()[asked[0].name]
        raise InputError(setting("methods"), "holds none that can be run", first)


def _matrix(config: CompareConfig, network: NetworkConfig, networks: Networks) -> Matrix:
    """The settings and data that all cells share."""
    given = _given(config, network.backbone)
    dataset = open_dataset(config.dataset, config.classes)
    folder = config.output or default_folder("compare", config, network, dataset)
    kinds = {
        find_method(c.method).offline for c in (*config.cells, *_earlier(folder, config.cells))
    }
    task_lists: dict[bool, Mapping[int, TaskList]] = {
        offline: lay_out_runs(config, dataset, offline) for offline in sorted(kinds)
    }
    broken = None
    if config.on_error == "skip":
        every = [tasks for lists in task_lists.values() for tasks in lists.values()]
        broken = broken_in(dataset, config, every, network)
    network = with_one_engine(network, config, config.first_run, folder.glob("*"), networks)
    return Matrix(config, network, given, Grid(folder, "compare"), dataset, task_lists, broken)


def _earlier(folder: Path, asked: Sequence[Cell]) -> list[Cell]:
    """Cells in the folder that were not requested now."""
    found: list[Cell] = []
    for path in sorted(folder.glob("*/config.toml")):
        matched = re.fullmatch(r"([\w.:]+?)(?:_(\d+))?", path.parent.name)
        if matched is None or not is_method(matched[1]):
            continue
        cell = Cell(matched[1], int(matched[2]) if matched[2] else None)
        if cell not in asked:
            found.append(cell)
    return found


def _given(config: CompareConfig, backbone: str) -> dict[Cell, Mapping[str, Any]]:
    """The settings that replace defaults, by cell.

    Raises:
        InputError: a file is missing, unusable, or of a search with another backbone, mode or
            budget.
    """
    files: dict[str, Path] = {}
    if config.tuned is not None:
        files = tuned_files(config.tuned, {cell.name: cell.method for cell in config.cells})
    by_hand = files_of(config.settings, config.names)
    files |= {c.name: by_hand[c.method] for c in config.cells if c.method in by_hand}
    return {
        cell: read_given(files[cell.name], cell.method, backbone, config.mode, cell.budget)
        for cell in config.cells
        if cell.name in files
    }


def stream_config(config: CompareConfig, cell: Cell, folder: Path) -> StreamConfig:
    """The stream of one cell."""
    shared = shared_settings(ProtocolConfig, config)
    return StreamConfig(**shared, method=cell.method, output=folder / cell.name)


def replays(method: str) -> bool:
    """Whether the number of exemplars that a method replays is a matter of its settings."""
    return hasattr(find_method(method).Config, "compute_budget")
