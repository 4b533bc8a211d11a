"""Tuning: the same search for every method, on training clips only.

Random search (Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 2012) on
the first tasks of an order of classes that no comparison has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from crumb.data.index import Dataset
from crumb.data.protocol import Frames, TaskList
from crumb.errors import DivergedError, InputError, require, setting
from crumb.experiments.draws import HELD_ASIDE, draw, ranges_of
from crumb.experiments.grid import Cell, Grid
from crumb.experiments.tuned import (
    LOG,
    TUNED,
    Trial,
    best,
    read_failed,
    write_log,
    write_tuned,
)
from crumb.features.features import FeatureStore
from crumb.methods.described import Ranges
from crumb.methods.registry import find_method
from crumb.nets.config import NetworkConfig
from crumb.seeds import derive
from crumb.stream.config import (
    MAX_RUNS,
    EvaluationConfig,
    Mode,
    StreamConfig,
    TasksConfig,
    at_least,
    shared_settings,
)
from crumb.stream.feed import choose
from crumb.stream.job import Job
from crumb.stream.learner import Networks
from crumb.stream.results import Results
from crumb.stream.run import broken_in, open_dataset, prepare
from crumb.stream.tasks import epochs_of, relabelled, tasks_of


@dataclass(frozen=True)
class TuneConfig(TasksConfig):
    """Search the learning rate and the coefficients of a method on clips held out of training ones.

    Every method gets the same number of trials on the first tasks of an order of classes that is
    kept aside; images to be tested on are not looked at.
    """

    method: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="METHOD")] = field(
        kw_only=True
    )
    """Learning method."""
    dataset: Path
    """Folder written by `crumb index`."""
    trials: int = 10
    """How many settings are tried; the first is the one given."""
    tasks: int = 3
    """How many tasks are learned in a trial."""
    validation_share: float = 0.2
    """Share of each class's training clips held out to be scored on; at least one, never all."""
    mode: Mode = "paper"
    """As of `crumb stream`: strict shows each frame once."""
    pretrained: Path | None = None
    """Start from the tail and codebook in this file of `crumb pretrain`."""
    output: Path | None = None
    """Folder of what is found; outputs/<data set>/tuned_<backbone>/<method> by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("trials", self.trials, 1, MAX_RUNS)
        at_least("tasks", self.tasks, 2, MAX_RUNS)
        share = self.validation_share
        require("validation_share", share, 0 < share < 1, "above 0 and below 1")

    def stream(self, folder: Path | None = None) -> StreamConfig:
        """The stream of one trial, with results in a folder."""
        return StreamConfig(
            **shared_settings(TasksConfig, self),
            method=self.method,
            first_run=HELD_ASIDE,
            evaluation=EvaluationConfig(top_k=(1,), mem_accuracy=False),
            resume=True,
            output=folder,
        )


@dataclass(frozen=True)
class Search:
    """Trials that are to be carried out.

    Attributes:
        config: of the tuning.
        network: which backbone.
        method: the method's own configuration, as it was given.
        dataset: opened.
        tasks: of every trial; what they test on was held out of their training clips.
        ranges: of what is searched.
        settings: the method's configuration in each trial.
        folder: of the results.
    """

    config: TuneConfig
    network: NetworkConfig
    method: Any
    dataset: Dataset
    tasks: TaskList
    ranges: Ranges
    settings: tuple[Any, ...]
    folder: Path

    @property
    def log(self) -> Path:
        """The table of the trials."""
        return self.folder / LOG

    @property
    def tuned(self) -> Path:
        """The chosen values, for ``--preset``."""
        return self.folder / TUNED

    def trial(self, number: int) -> Path:
        """The results folder of a trial."""
        return self.folder / "trials" / f"{number:02}"

    def values(self, number: int) -> dict[str, float]:
        """What is searched, as it is in one trial."""
        return {name: getattr(self.settings[number], name) for name in self.ranges}


def plan(config: TuneConfig, network: NetworkConfig, method: Any) -> Search:
    """Lay out everything that tuning does; nothing is written.

    Args:
        config: of the tuning.
        network: which backbone.
        method: the method's own configuration; what is not searched stays as it is.

    Raises:
        InputError: anything that the user gave and that cannot be used.
    """
    kind = find_method(config.method)
    dataset = open_dataset(config.dataset, config.classes)
    ranges = ranges_of(kind, method)
    if not ranges:
        problem = "has neither a learning rate nor a coefficient to search"
        raise InputError(f"crumb tune {kind.name}", problem, "choose another method")
    drawn = draw(ranges, config.trials - 1, kind)
    settings = (method, *[replace(method, **values) for values in drawn])
    group = f"tuned_{network.backbone}"
    folder = config.output or Path("outputs") / dataset.name / group / config.method
    tasks = held_aside(config, dataset, kind.offline)
    search = Search(config, network, method, dataset, tasks, ranges, settings, folder)
    for path in (search.tuned, search.log):
        if path.exists() and not (folder / "trials").is_dir():
            problem = "is of no tuning in this folder, and would be overwritten"
            raise InputError(path, problem, f"move it, or choose another {setting('output')}")
    return search


def tune(search: Search, stores: dict[str, FeatureStore] | None = None) -> Iterator[Trial]:
    """Carry out the trials; the chosen values are written after the last one.

    A trial that was finished in the same folder is not done again, and one that was interrupted
    goes on. The log is written after each, and always holds all that are finished in the folder.

    Args:
        search: planned.
        stores: features computed so far, to be shared.

    Yields:
        each trial when it is over.

    Raises:
        InputError: every trial diverged, one failed, or is another call's, after the others are
            done; before, the folder holds trials of other settings, or more than are asked for.
        KeyboardInterrupt, Terminated: a signal came; what is done is kept.
    """
    grid = Grid(search.folder, "tune", "trial", stores={} if stores is None else stores)
    _done(search)
    _arrange(search, grid)
    known: dict[int, Trial] = {}
    try:
        for cell in grid.fill():
            if cell.name in grid.failed:
                continue
            number = int(cell.name)
            trial = _trial(search, number, grid.diverged.get(cell.name, {}))
            with grid.tables():
                # Another call may have finished some.
                known |= _known(search) | {number: trial}
                write_log(search.log, [known[one] for one in sorted(known)])
            yield trial
    finally:
        # The first trial may have failed: there is nothing in them then.
        if not search.log.exists():
            with contextlib.suppress(OSError):
                (search.folder / "trials").rmdir()
                search.folder.rmdir()
    grid.end()
    for name in grid.busy:
        raise InputError(f"trial {name}", grid.notes()[name], "call again when that has ended")
    chosen = best([known[number] for number in sorted(known)])
    write_tuned(search.tuned, search.config.method, chosen, _about(search))


def _arrange(search: Search, grid: Grid) -> None:
    """All trials, checked before the first is begun.

    Raises:
        InputError: one cannot be; the folder holds trials of other settings.
    """
    networks: Networks = {}
    stream, broken = search.config.stream(), None
    if stream.on_error == "skip":
        broken = broken_in(search.dataset, stream, [search.tasks], search.network)
    for number in range(search.config.trials):
        cell = Cell(str(number), _job(search, number, broken))
        with grid.arranging(cell.name, search.folder):
            prepare(cell.job, networks)
        if cell.name in grid.impossible:
            raise grid.impossible[cell.name]
        grid.cells.append(cell)


def _done(search: Search) -> tuple[set[int], list[Trial]]:
    """Numbers of the trials that are finished in the folder, and those that failed there.

    Raises:
        InputError: they are more than are asked for; the log of those that failed is damaged.
    """
    records = search.folder.glob(f"trials/*/runs/run{HELD_ASIDE}.json")
    names = [path.parent.parent.name for path in records]
    finished = {int(name) for name in names if name.isdecimal()}
    # Nothing but the log is left of one that failed; where none is finished it may be of other
    # settings.
    failed = read_failed(search.log) if finished and search.log.exists() else []
    count = 1 + max([-1, *finished, *(trial.number for trial in failed)])
    asked = search.config.trials
    if count > asked:
        problem = f"is fewer than the {count} that are in {search.folder}"
        remedy = f"give at least {count}, or another {setting('output')}"
        raise InputError(setting("trials", asked), problem, remedy)
    return finished, [trial for trial in failed if trial.values == search.values(trial.number)]


def _known(search: Search) -> dict[int, Trial]:
    """The trials that are over in the folder, by number; a damaged one is another's to report."""
    finished, failed = _done(search)
    known = {trial.number: trial for trial in failed}
    for number in finished:
        with contextlib.suppress(InputError):
            known[number] = _trial(search, number, {})
    return known


def _trial(search: Search, number: int, diverged: Mapping[int, DivergedError]) -> Trial:
    """What became of a trial that is over."""
    values = search.values(number)
    for error in diverged.values():
        where, what, _ = error.parts
        return Trial(number, values, failed=f"{where.removeprefix('--lr: ')}: {what}")
    (record,) = Results.finished_in(search.trial(number))
    return Trial(number, values, record.figures()["average_accuracy"], record.seconds)


def _job(search: Search, number: int, broken: Mapping[str, str] | None) -> Job:
    config, folder = search.config, search.trial(number)
    return Job(
        "tune",
        config.stream(folder),
        search.network,
        search.settings[number],
        search.dataset,
        {HELD_ASIDE: search.tasks},
        folder,
        None,
        {"tune": {"tasks": config.tasks, "validation_share": config.validation_share}},
        broken,
    )


def _about(search: Search) -> dict[str, Any]:
    """What is tuned on; None where nothing was given."""
    config, network = search.config, search.network
    return {
        "dataset": search.dataset.name,
        "classes": list(config.classes) or None,
        "protocol": config.protocol,
        "mode": config.mode,
        **asdict(config.layout),
        "backbone": network.backbone,
        "cut": network.cut,
        "weights": str(network.weights_file or network.weights),
        "trainable": network.trainable,
        "pretrained": None if config.pretrained is None else str(config.pretrained.absolute()),
        "tasks": config.tasks,
        "epochs": epochs_of(
            config.stream(), search.tasks, getattr(search.method, "joint_epochs", 1)
        ),
        "batch_size": config.batch_size,
        "validation_share": config.validation_share,
        "trials": config.trials,
        "searched": {name: list(bounds) for name, bounds in search.ranges.items()},
    }


# What it is tried on.


def held_aside(config: TuneConfig, dataset: Dataset, offline: bool = False) -> TaskList:
    """The first tasks of the order that is kept aside, tested on clips held out of them.

    Raises:
        InputError: there are fewer tasks; a class has a single image in them; a task would have
            nothing to learn from; and as :func:`crumb.stream.tasks.tasks_of`.
    """
    whole = tasks_of(config.stream(), dataset, HELD_ASIDE, offline)
    count = len(whole.tasks)
    if count < config.tasks:
        problem = f"is more than the {count} that {dataset.folder} is laid out in"
        remedy = f"give at most {count}, or smaller tasks ({setting('classes_per_task')})"
        raise InputError(setting("tasks", config.tasks), problem, remedy)
    assert whole.table is not None
    # An offline task shows images again; in the order of the index nothing depends on the tasks'.
    table = whole.table.drop_duplicates("im_path").sort_values("Unnamed: 0")
    rows = table.loc[table["task"] < config.tasks]
    held = _held_out(rows, config.validation_share, dataset)
    kept = [
        choose(frames, np.array([path not in held for path in frames.paths], bool))
        for frames in whole.tasks[: config.tasks]
    ]
    for task, frames in enumerate(kept):
        if not frames.paths:
            raise InputError(
                setting("validation_share", config.validation_share),
                f"leaves task {task} nothing to learn from",
                "give a smaller one, or larger tasks",
            )
    tested = rows.loc[rows["im_path"].isin(list(held))]
    test = Frames(tuple(tested["im_path"].tolist()), tested["label"].to_numpy(np.int64))
    return relabelled(replace(whole, tasks=tuple(kept), test=test))


def _held_out(rows: pd.DataFrame, share: float, dataset: Dataset) -> set[str]:
    """Paths of whole clips of each class, or where it has one clip only, of images."""
    generator = np.random.default_rng(derive(HELD_ASIDE, "validation"))
    held: set[str] = set()
    for number in np.unique(rows["class"].to_numpy()).tolist():
        of_class = rows.loc[rows["class"] == number]
        parts = of_class.groupby(["object", "session"]).ngroup().to_numpy()
        if not parts.any():
            parts = np.arange(len(of_class))
        count = int(parts.max()) + 1
        if count == 1:
            name = dataset.class_names[number]
            raise InputError(
                dataset.folder,
                f"has one image of class {name!r} in the tasks to tune on, of which none could be "
                "held out",
                f"add some, give larger tasks, or name the other classes with {setting('classes')}",
            )
        chosen = generator.permutation(count)[: min(max(round(share * count), 1), count - 1)]
        held.update(of_class.loc[np.isin(parts, chosen), "im_path"].tolist())
    return held
