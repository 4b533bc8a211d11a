"""Hyperparameter search, the same for every method, on training clips only.

The trials are points of a Sobol sequence (Bergstra and Bengio, "Random Search for Hyper-Parameter
Optimization", JMLR 2012, compare it with random points). Each is a stream of the first tasks of an
order of classes that no comparison uses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from crumb.data.index import Dataset
from crumb.data.protocol import Frames, TaskList
from crumb.errors import DivergedError, InputError, require, setting
from crumb.experiments.draws import HELD_ASIDE, draw, ranges_of
from crumb.experiments.grid import Cell, Grid, with_one_engine
from crumb.experiments.tuned import (
    BUDGET,
    LOG,
    TUNED,
    Trial,
    best,
    read_failed,
    write_log,
    write_tuned,
)
from crumb.features.features import FeatureStore
from crumb.kinds import Argument
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
from crumb.stream.job import Job
from crumb.stream.learner import Networks
from crumb.stream.results import Results
from crumb.stream.run import broken_in, prepare
from crumb.stream.tasks import choose, epochs_of, open_dataset, relabelled, tasks_of


@dataclass(frozen=True)
class TuneConfig(TasksConfig):
    """Search the learning rate and other settings of a method on held-out training clips.

    Every method gets the same number of trials on the first tasks of a reserved order of classes.
    Test images are never used.
    """

    method: Annotated[str, Argument(positional=True, metavar="METHOD")] = field(kw_only=True)
    """Learning method."""
    dataset: Path
    """Folder written by `crumb index`."""
    trials: int = 20
    """Number of trials. The first uses the given settings."""
    tasks: int = 3
    """Number of tasks per trial."""
    validation_share: float = 0.2
    """Share of each class's training clips held out for scoring; at least one, never all."""
    mode: Mode = "paper"
    """Mode as in `crumb stream`; strict is online (single-pass)."""
    pretrained: Path | None = None
    """File of `crumb pretrain` with the initial tail and codebook."""
    output: Path | None = None
    """Results folder. Default: outputs/<data set>/tuned_<backbone>/<method>."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("trials", self.trials, 1, MAX_RUNS)
        at_least("tasks", self.tasks, 2, MAX_RUNS)
        share = self.validation_share
        require("validation_share", share, 0 < share < 1, "above 0 and below 1")

    def stream(self, folder: Path | None = None) -> StreamConfig:
        """The stream configuration of one trial."""
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
    """A planned search.

    Attributes:
        config: configuration of the search.
        network: configuration of the backbone.
        method: the given configuration of the method.
        dataset: the opened data set.
        tasks: tasks of every trial, tested on held-out training clips.
        ranges: range of each searched setting.
        settings: configuration of the method in each trial.
        folder: results folder.
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

    def values(self, number: int) -> dict[str, Any]:
        """Values of the searched settings in one trial."""
        return {name: getattr(self.settings[number], name) for name in self.ranges}


def plan(config: TuneConfig, network: NetworkConfig, method: Any) -> Search:
    """Plan a search without writing anything.

    Args:
        config: configuration of the search.
        network: configuration of the backbone.
        method: configuration of the method. Settings that are not searched keep their values.

    Raises:
        InputError: a setting or file is unusable.
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
            problem = "does not belong to a search in this folder and would be overwritten"
            raise InputError(path, problem, f"move it or choose another {setting('output')}")
    return search


def tune(search: Search, stores: dict[str, FeatureStore] | None = None) -> Iterator[Trial]:
    """Run the trials and write the chosen values after the last one.

    Finished trials in the same folder are not repeated, and interrupted ones resume. The log is
    written after each trial and holds all finished trials.

    Args:
        search: the planned search.
        stores: shared cache of features.

    Yields:
        each finished trial.

    Raises:
        InputError: before the first trial, the folder holds trials with other settings or more than
            requested. After the last, every trial diverged, one failed, or another call still runs
            one.
        KeyboardInterrupt, Terminated: a signal arrived; finished work is kept.
    """
    grid = Grid(search.folder, "tune", "trial", stores={} if stores is None else stores)
    _done(search)
    search = _arrange(search, grid)
    known: dict[int, Trial] = {}
    try:
        for cell in grid.fill():
            if cell.name in grid.failed:
                continue
            number = int(cell.name)
            trial = _trial(search, number, grid.diverged.get(cell.name, {}))
            with grid.tables():
                # Another call may have finished some trials.
                known |= _known(search) | {number: trial}
                write_log(search.log, [known[one] for one in sorted(known)])
            yield trial
    finally:
        # Empty if the first trial failed.
        if not search.log.exists():
            with contextlib.suppress(OSError):
                (search.folder / "trials").rmdir()
                search.folder.rmdir()
    grid.end()
    for name in grid.busy:
        raise InputError(f"trial {name}", grid.notes()[name], "call again when that has ended")
    chosen = best([known[number] for number in sorted(known)])
    write_tuned(search.tuned, search.config.method, chosen, _about(search))


def _arrange(search: Search, grid: Grid) -> Search:
    """All trials, checked before the first starts. Returns the search with the engine of all.

    Raises:
        InputError: a trial is invalid, or the folder holds trials with other settings.
    """
    networks: Networks = {}
    folders = search.folder.glob("trials/*")
    network = with_one_engine(search.network, search.config, HELD_ASIDE, folders, networks)
    search = replace(search, network=network)
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
    return search


def _done(search: Search) -> tuple[set[int], list[Trial]]:
    """Numbers of finished trials in the folder, and the failed trials.

    Raises:
        InputError: there are more trials than requested, or the log of failed ones is damaged.
    """
    records = search.folder.glob(f"trials/*/runs/run{HELD_ASIDE}.json")
    names = [path.parent.parent.name for path in records]
    finished = {int(name) for name in names if name.isdecimal()}
    # Failed trials are recorded only in the log, whose settings are unknown if no trial is
    # finished.
    failed = read_failed(search.log) if finished and search.log.exists() else []
    count = 1 + max([-1, *finished, *(trial.number for trial in failed)])
    asked = search.config.trials
    if count > asked:
        problem = f"is fewer than the {count} that are in {search.folder}"
        remedy = f"give at least {count}, or another {setting('output')}"
        raise InputError(setting("trials", asked), problem, remedy)
    return finished, [trial for trial in failed if trial.values == search.values(trial.number)]


def _known(search: Search) -> dict[int, Trial]:
    """The finished trials in the folder, by number. Damaged ones are reported elsewhere."""
    finished, failed = _done(search)
    known = {trial.number: trial for trial in failed}
    for number in finished:
        with contextlib.suppress(InputError):
            known[number] = _trial(search, number, {})
    return known


def _trial(search: Search, number: int, diverged: Mapping[int, DivergedError]) -> Trial:
    """The result of a finished trial."""
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
    """The data that was tuned on; None if not given."""
    config, network = search.config, search.network
    return {
        "dataset": search.dataset.name,
        "classes": list(config.classes) or None,
        "protocol": config.protocol,
        "mode": config.mode,
        BUDGET: getattr(search.method, BUDGET, None),
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


# The tasks of the trials.


def held_aside(config: TuneConfig, dataset: Dataset, offline: bool = False) -> TaskList:
    """The first tasks of the reserved order, tested on held-out clips.

    Raises:
        InputError: there are fewer tasks, a class has a single image in them, a task would have no
            training image, or see :func:`crumb.stream.tasks.tasks_of`.
    """
    whole = tasks_of(config.stream(), dataset, HELD_ASIDE, offline)
    count = len(whole.tasks)
    if count < config.tasks:
        problem = f"is more than the {count} tasks of {dataset.folder}"
        remedy = f"give at most {count}, or smaller tasks ({setting('classes_per_task')})"
        raise InputError(setting("tasks", config.tasks), problem, remedy)
    assert whole.table is not None
    # Offline tasks repeat images. The order of the index does not depend on that of the tasks.
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
                f"leaves nothing to learn from in task {task}",
                "give a smaller one, or larger tasks",
            )
    tested = rows.loc[rows["im_path"].isin(list(held))]
    test = Frames(tuple(tested["im_path"].tolist()), tested["label"].to_numpy(np.int64))
    return relabelled(replace(whole, tasks=tuple(kept), test=test))


def _held_out(rows: pd.DataFrame, share: float, dataset: Dataset) -> set[str]:
    """Paths of whole clips of each class, or of images if a class has a single clip."""
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
                f"has one image of class {name!r} in the tasks to tune on, so none can be held out",
                f"add some, use larger tasks, or choose other classes with {setting('classes')}",
            )
        chosen = generator.permutation(count)[: min(max(round(share * count), 1), count - 1)]
        held.update(of_class.loc[np.isin(parts, chosen), "im_path"].tolist())
    return held
