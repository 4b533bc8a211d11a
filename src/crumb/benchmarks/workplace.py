"""Shared inputs of the rows: settings, a data set, and a short stream with features."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from crumb.data.index import Dataset, load_dataset
from crumb.data.protocol import Frames, TaskList
from crumb.data.sets.toybox import index_toybox
from crumb.device import cores
from crumb.errors import InputError
from crumb.features.features import FeatureStore
from crumb.methods.base import Learner
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.fronts import use_engine
from crumb.stream.checkpoint import State
from crumb.stream.config import MachineConfig, StreamConfig
from crumb.stream.feed import Reading
from crumb.stream.loop import learn_epoch
from crumb.stream.plan import Plan
from crumb.stream.record import RunRecord
from crumb.stream.run import open_store
from crumb.stream.tasks import choose, tasks_of

BATCH_SIZE = 21
# Images of each of the two tasks for rows of single steps: enough for thirty steps.
_IMAGES_OF_A_TASK = 30 * BATCH_SIZE


@dataclass(frozen=True)
class Setting:
    """Settings of a benchmark suite.

    Attributes:
        network: configuration of the backbone.
        dataset: folder of an indexed data set. None uses the sample clips of the package.
        runs: number of runs of the experiment.
        repeats: number of turns of each measurement. The median counts.
        device: cpu, cuda or cuda:N.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    dataset: Path | None = None
    runs: int = 10
    repeats: int = 5
    device: str = "cpu"


@dataclass(frozen=True)
class ShortStream:
    """The first two tasks of a data set, shortened, with their features in memory.

    Attributes:
        tasks: two tasks without test images.
        store: feature store of their images.
        config: configuration of a stream over them.
    """

    tasks: TaskList
    store: FeatureStore
    config: StreamConfig

    def reading(self, task: int, epoch: int = 0) -> Reading:
        """One pass over a task."""
        frames = self.tasks.tasks[task]
        return Reading(frames, self.store, BATCH_SIZE, first_pass=epoch == 0)

    def read(self, learner: Learner, task: int, epoch: int = 0) -> RunRecord:
        """Train a learner on a task, as a stream does."""
        masks = [np.zeros(len(frames.paths), bool) for frames in self.tasks.tasks]
        epochs = [1] * len(masks)
        plan = Plan(self.tasks, epochs, masks, BATCH_SIZE, learner, self.store, self.config)
        record = RunRecord(self.tasks.run, list(self.tasks.classes))
        learn_epoch(plan, self.reading(task, epoch), State(record, task, epoch))
        return record

    def classes(self, task: int) -> tuple[str, ...]:
        """Names of the classes that a learner knows after this task."""
        return self.tasks.classes[: 1 + max(max(f.labels) for f in self.tasks.tasks[: task + 1])]


class Workplace:
    """Inputs that several rows share, each created on first use.

    Args:
        setting: setting of the suite.
        folder: temporary folder for files of the suite.

    Raises:
        InputError: the data set does not exist. This is checked before any measurement.
    """

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.folder = folder
        self._given = None if setting.dataset is None else load_dataset(setting.dataset)

    @cached_property
    def dataset(self) -> Dataset:
        """The requested data set, or the sample clips, cut into frames in the folder."""
        if self._given is not None:
            return self._given
        clips = Path(str(files("crumb") / "sample" / "clips"))
        return index_toybox(clips, self.folder / "sample", cores())

    def stream_config(self, **changes: Any) -> StreamConfig:
        """A stream over the data set that uses no features of earlier calls."""
        machine = MachineConfig(device=self.setting.device, feature_cache="memory")
        config = StreamConfig(self.dataset.folder, batch_size=BATCH_SIZE, machine=machine)
        return replace(config, **changes)

    def learner(self, outputs: int, **settings: Any) -> Crumb:
        """A new CRUMB learner with this number of classes, before its first batch."""
        network = build_network(self.setting.network)
        learner = Crumb(network, CrumbConfig(**settings), device=self.setting.device)
        use_engine(network, self.setting.network.engine)
        learner.start_head(outputs)
        return learner

    @cached_property
    def short(self) -> ShortStream:
        """Two tasks for the rows that time single steps.

        Raises:
            InputError: the data set has only one task, or unusable images.
        """
        config = self.stream_config()
        whole = tasks_of(config, self.dataset, 0, offline=False)
        if len(whole.tasks) < 2:
            problem = "has classes for only one task, so there is nothing to replay"
            raise InputError(self.dataset.folder, problem, "index at least three classes")
        first_two = [_first(frames) for frames in whole.tasks[:2]]
        tasks = replace(whole, tasks=tuple(first_two), test=_first(whole.test, 0))
        store = open_store(self.learner(len(tasks.classes)), config, self.dataset, [tasks], {})
        return ShortStream(tasks, store, config)


@contextmanager
def workplace(setting: Setting) -> Iterator[Workplace]:
    """A workplace whose temporary folder is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="crumb-bench-") as folder:
        yield Workplace(setting, Path(folder))


def _first(frames: Frames, count: int = _IMAGES_OF_A_TASK) -> Frames:
    return choose(frames, np.arange(len(frames.paths)) < count)
