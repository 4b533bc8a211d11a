"""Everything that one run needs, and the frames that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crumb.data.protocol import Frames, TaskList
from crumb.features.features import FeatureStore
from crumb.methods.base import Learner
from crumb.stream.checkpoint import Checkpoints
from crumb.stream.config import StreamConfig
from crumb.stream.feed import Reading
from crumb.stream.tasks import choose


@dataclass(frozen=True)
class Plan:
    """Everything that one run needs.

    Attributes:
        tasks: tasks with training and test frames.
        epochs: number of epochs of each task.
        held_out: held-out training frames of each task, bool (n,).
        batch_size: batch size in images.
        learner: a fresh learner.
        store: feature store of all frames.
        config: config of the stream.
        checkpoints: checkpoints of this run, if any.
        task_models: file of the learner after each task, if saved.
        lost: training frames of each task that arrive while the learner is busy, bool (n,); empty
            without a stream rate.
        batch_seconds: seconds per batch that decide which frames are lost; None likewise.
    """

    tasks: TaskList
    epochs: Sequence[int]
    held_out: Sequence[np.ndarray]
    batch_size: int
    learner: Learner
    store: FeatureStore
    config: StreamConfig
    checkpoints: Checkpoints | None = None
    task_models: Sequence[Path] = ()
    lost: Sequence[np.ndarray] = ()
    batch_seconds: float | None = None

    def learned(self, task: int) -> Frames:
        """The frames of a task to learn from: neither held out nor lost."""
        left_out = self.held_out[task]
        if self.lost:
            left_out = left_out | self.lost[task]
        return choose(self.tasks.tasks[task], ~left_out)

    def reading(self, task: int, epoch: int = 0, start: int = 0) -> Reading:
        """One pass over these frames from a batch on, with pixels if the learner needs them."""
        # Pixels are needed to learn from them or to store them, on arrival or in the second pass.
        learner, first = self.learner, epoch == 0
        stored = learner.needs_images and not learner.needs_second_pass and first
        pixels = learner.wants_images or stored
        return Reading(self.learned(task), self.store, self.batch_size, pixels, first, start)

    def begin(self, task: int, known: int) -> None:
        """Tell a learner that needs task boundaries that a task starts.

        Args:
            task: number of the task.
            known: number of classes of this and all earlier tasks.
        """
        if self.learner.needs_task_boundaries:
            self.learner.expect_task(len(self.reading(task)) * self.epochs[task])
            self.learner.begin_task(self.tasks.classes[:known])
