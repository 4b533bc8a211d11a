"""Streams with a rate: frames that arrive while the learner is busy are lost.

The clock is simulated. Frames arrive one by one, ``stream_rate`` per second. The learner collects a
batch and is then busy for a constant time, in which frames are lost. It is idle when a task starts:
the clock stops for tests and for the work at the end of a task. The time of a batch is measured
once and stored with the results, so every run and every resumed run loses the same frames.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crumb.errors import InputError, setting
from crumb.files import read_json, write_json
from crumb.stream.checkpoint import State
from crumb.stream.loop import learn_epoch
from crumb.stream.plan import Plan
from crumb.stream.record import RunRecord
from crumb.stream.results import TIMING

FORMAT, VERSION = "crumb-timing", 1
_WARM_UP, _MEASURED = 3, 20


def lost_frames(count: int, rate: float, seconds: float, batch_size: int) -> NDArray[np.bool_]:
    """Find the frames of a task that arrive while the learner is busy.

    Frame i arrives at i / rate seconds. A frame that arrives exactly when the learner is done is
    not lost.

    Args:
        count: number of frames.
        rate: frames per second.
        seconds: seconds for which a batch keeps the learner busy.
        batch_size: batch size in frames.

    Returns:
        bool [count].
    """
    lost = np.zeros(count, bool)
    # A frame that is late only by rounding is not lost. The product may be infinite.
    missed = math.ceil(round(min(seconds * rate, count + 1.0), 9)) - 1
    if missed > 0:
        lost[np.arange(count) % (batch_size + missed) >= batch_size] = True
    return lost


def with_losses(plan: Plan, seconds: float) -> Plan:
    """The plan of a run that loses the frames that arrive while its learner is busy."""
    rate = plan.config.stream_rate
    assert rate is not None
    lost = [
        lost_frames(len(frames.paths), rate, seconds, plan.batch_size)
        for frames in plan.tasks.tasks
    ]
    return replace(plan, lost=lost, batch_seconds=seconds)


def seconds_per_batch(folder: Path, begun: bool, measure: Callable[[], float]) -> float:
    """Read the recorded seconds of a batch, or measure and record them.

    Args:
        folder: results folder.
        begun: whether it already holds runs, which have lost frames.
        measure: function that measures the seconds of a batch.

    Raises:
        InputError: the file is damaged, is missing although there are runs, or cannot be written.
    """
    path = folder / TIMING
    if path.exists():
        value = read_json(path, "restore it or remove the folder")
        seconds = value.get("seconds_per_batch")
        known = (value.get("format"), value.get("version")) == (FORMAT, VERSION)
        if not known or not isinstance(seconds, float) or not 0 <= seconds < np.inf:
            problem = f"is not a {FORMAT} file of version {VERSION}"
            raise InputError(path, problem, "restore it or remove the folder")
        return seconds
    if begun:
        problem = "is missing, so further runs would lose other frames"
        remedy = f"restore it or choose another {setting('output')}"
        raise InputError(path, problem, remedy)
    seconds = measure()
    write_json(path, {"format": FORMAT, "version": VERSION, "seconds_per_batch": seconds})
    return seconds


def measured(plan: Plan) -> float:
    """Measure the mean seconds of a batch of the first task, after a few warm-up batches.

    Args:
        plan: plan of a run, with a learner that is discarded afterwards.
    """
    learner, record = plan.learner, RunRecord(plan.tasks.run, [*plan.tasks.classes])
    learner.start_head(len(plan.tasks.classes))
    plan.begin(0, len(set(plan.tasks.tasks[0].labels.tolist())))
    whole = plan.reading(0)
    warm_up = min(_WARM_UP, len(whole) // 2)
    _learn(plan, 0, warm_up, record)
    last = min(len(whole), warm_up + _MEASURED)
    started = time.perf_counter()
    _learn(plan, warm_up, last, record)
    return (time.perf_counter() - started) / (last - warm_up)


def _learn(plan: Plan, first: int, end: int, record: RunRecord) -> None:
    """Learn some batches of the first task."""
    if first == end:
        return
    reading = plan.reading(0, start=first)
    frames = reading.frames
    room = end * plan.batch_size
    frames = replace(frames, paths=frames.paths[:room], labels=frames.labels[:room])
    learn_epoch(replace(plan, checkpoints=None), replace(reading, frames=frames), State(record))
