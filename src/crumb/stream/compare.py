"""A matrix of methods and byte budgets over one stream, filled in any number of calls."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from crumb.errors import DivergedError, InputError, Terminated
from crumb.methods.registry import find_method, methods
from crumb.nets.config import NetworkConfig
from crumb.stream.config import ProtocolConfig, StreamConfig, at_least
from crumb.stream.features import FeatureStore
from crumb.stream.record import RunRecord
from crumb.stream.results import BusyError
from crumb.stream.run import new_learner, open_dataset, stream
from crumb.stream.tuned import TUNED, read_tuned

ALL = "all"


@dataclass(frozen=True)
class CompareConfig(ProtocolConfig):
    """Run methods over the same stream, each in the same number of bytes, and compare them."""

    dataset: Path
    """Folder written by `crumb index`."""
    methods: tuple[str, ...] = (ALL,)
    """Methods by name, or all."""
    budget_bytes: tuple[int, ...] = (250_000,)
    """Bytes of exemplars and of all that is needed to read them. Methods that keep none are run
    once, for all budgets."""
    tuned: Path | None = None
    """Folder that holds METHOD/tuned.toml of `crumb tune` for the methods that were tuned."""
    output: Path | None = None
    """Folder of the comparison; outputs/<data set>/compare_<protocol>_<mode> by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for budget in self.budget_bytes:
            at_least("--budget-bytes", budget, 1)
        for flag, values in (("--methods", self.methods), ("--budget-bytes", self.budget_bytes)):
            if not values or len(set(values)) != len(values):
                problem = "names nothing" if not values else "names one twice"
                raise InputError(flag, problem, "name each once")
        for name in self.methods:
            if name != ALL:
                find_method(name)
        if ALL in self.methods and len(self.methods) > 1:
            raise InputError("--methods all", "leaves no others to name", "give one or the other")

    @property
    def names(self) -> tuple[str, ...]:
        """The methods that are meant."""
        return tuple(methods()) if self.methods == (ALL,) else self.methods


@dataclass(frozen=True)
class Cell:
    """One method with one budget; None for a method that keeps no exemplars."""

    method: str
    budget: int | None

    @property
    def name(self) -> str:
        """Of its results folder."""
        return self.method if self.budget is None else f"{self.method}_{self.budget}"


@dataclass(frozen=True)
class Comparison:
    """What a comparison has come to.

    Attributes:
        budgets: in bytes, ascending.
        records: finished runs of each cell, by number of the run.
        impossible: why a cell cannot be run.
        diverged: what became of a cell whose losses did not stay finite.
        busy: cells that another call is at.
        tuned: values of `crumb tune` that a method was given, if any.
    """

    budgets: tuple[int, ...]
    records: Mapping[Cell, list[RunRecord]]
    impossible: Mapping[Cell, str]
    diverged: Mapping[Cell, str]
    busy: tuple[Cell, ...]
    tuned: Mapping[str, Mapping[str, Any]]

    def of_budget(self, budget: int) -> dict[str, list[RunRecord]]:
        """Finished runs by method: those of the budget, and those of methods without exemplars."""
        return {
            cell.method: records
            for cell, records in self.records.items()
            if records and cell.budget in (budget, None)
        }


def cells_of(config: CompareConfig) -> list[Cell]:
    """All cells, budget by budget; methods without exemplars first."""
    storing = [name for name in config.names if find_method(name).stores_exemplars()]
    cells = [Cell(name, None) for name in config.names if name not in storing]
    return cells + [Cell(name, budget) for budget in config.budget_bytes for name in storing]


def compare(config: CompareConfig, network: NetworkConfig) -> Comparison:
    """Run what is not done yet, and go on with what was interrupted.

    Several calls may work on one folder at a time: each leaves a cell that another is at.

    Args:
        config: of the comparison.
        network: which backbone, the same for all methods.

    Raises:
        InputError: no cell can be run, or data or disk fail one; what is finished is kept.
        KeyboardInterrupt, Terminated: a signal came; the same call goes on from there.
    """
    tuned = {}
    if config.tuned is not None:
        tuned = tuned_in(config.tuned, config.names, network.backbone, config.mode)
    folder = config.output or default_folder(config)
    cells, impossible = _possible(config, network, tuned)
    stores: dict[str, FeatureStore] = {}
    busy: list[Cell] = []
    records: dict[Cell, list[RunRecord]] = {}
    diverged: dict[Cell, str] = {}
    for number, cell in enumerate(cells):
        _tell(f"{number + 1} of {len(cells)}: {cell.name}")
        whole = replace(stream_config(config, cell, folder), resume=True)
        try:
            results = stream(whole, network, method_config(cell, tuned), stores)
        except BusyError:
            busy.append(cell)
            continue
        except DivergedError as error:
            diverged[cell] = str(error)
            continue
        except (KeyboardInterrupt, Terminated) as signalled:
            # How to go on with the one cell is of no help: the same call goes on with all.
            signalled.args = ()
            raise
        last = config.first_run + config.runs
        found = [one for one in results.finished() if config.first_run <= one.run < last]
        records[cell] = found
    budgets = tuple(sorted(config.budget_bytes))
    return Comparison(budgets, records, impossible, diverged, tuple(busy), tuned)


def tuned_in(
    folder: Path, names: Sequence[str], backbone: str, mode: str
) -> dict[str, Mapping[str, float]]:
    """What was found for the methods that were tuned, by name.

    Raises:
        InputError: nothing was found there for any of them, or what was is unusable, or was found
            with another backbone or mode.
    """
    found = {name: folder / name / TUNED for name in names}
    found = {name: path for name, path in found.items() if path.exists()}
    if not found:
        problem = f"holds no METHOD/{TUNED} of these methods"
        remedy = f"write them with crumb tune METHOD --output {folder}/METHOD"
        raise InputError(f"--tuned {folder}", problem, remedy)
    return {name: read_tuned(path, name, backbone, mode).values for name, path in found.items()}


def default_folder(config: CompareConfig) -> Path:
    """outputs/<data set>/compare_<protocol>_<mode>."""
    name = open_dataset(config.dataset, config.classes).name
    return Path("outputs") / name / f"compare_{config.protocol}_{config.mode}"


def stream_config(config: CompareConfig, cell: Cell, folder: Path) -> StreamConfig:
    """The stream of one cell."""
    shared = {field.name: getattr(config, field.name) for field in fields(ProtocolConfig)}
    return StreamConfig(**shared, method=cell.method, output=folder / cell.name)


def method_config(cell: Cell, tuned: Mapping[str, Mapping[str, Any]]) -> Any:
    """The settings of one cell: those tuned over the defaults, and the budget.

    Raises:
        InputError: a budget that the method can do nothing with.
    """
    settings = dict(tuned.get(cell.method, {}))
    if cell.budget is not None:
        settings["budget_bytes"] = cell.budget
    return find_method(cell.method).Config(**settings)


def _possible(
    config: CompareConfig, network: NetworkConfig, tuned: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Cell], dict[Cell, str]]:
    """The cells that can be run, and of the others why not; found out before any is run."""
    cells, impossible = cells_of(config), {}
    for cell in cells:
        try:
            one = stream_config(config, cell, Path())
            new_learner(one, network, method_config(cell, tuned), config.first_run)
        except InputError as error:
            impossible[cell] = str(error)
            if len(impossible) == len(cells):
                raise
    return [cell for cell in cells if cell not in impossible], impossible


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")
