"""Write finished runs for TensorBoard: one event file per run in the results folder.

The files are in ``tensorboard/run<r>``, so ``tensorboard --logdir outputs`` names every run after
its folder, and no two calls write the same file.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from crumb.errors import InputError, setting
from crumb.files import write_bytes
from crumb.stream.record import RunRecord

# (tag, step, value)
Scalar = tuple[str, int, float]


def check_installed() -> None:
    """Check early that the files can be written at the end.

    Raises:
        InputError: the tensorboard package is missing.
    """
    if find_spec("tensorboard") is None:
        remedy = "pip install 'crumb-learn[tensorboard]', or leave it out"
        raise InputError(setting("tensorboard"), "needs the tensorboard package", remedy)


def events_file(folder: Path, run: int) -> Path:
    """Path of the events of a run in a results folder."""
    return folder / "tensorboard" / f"run{run}" / "events.out.tfevents.0.crumb"


def write_missing(records: Iterable[RunRecord], folder: Path) -> None:
    """Write the runs without an event file with :func:`write_events`."""
    for record in records:
        if not events_file(folder, record.run).exists():
            write_events(record, folder)


def write_events(record: RunRecord, folder: Path) -> Path:
    """Write a finished run for TensorBoard. Replaces an earlier file of the run.

    Args:
        record: record of the run.
        folder: results folder.

    Returns:
        path of the file.

    Raises:
        InputError: the file cannot be written.
    """
    # Both modules make their names when they are imported.
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore
    from tensorboard.summary.writer.record_writer import RecordWriter

    content, now = io.BytesIO(), time.time()
    writer = RecordWriter(content)
    events = [Event(wall_time=now, file_version="brain.Event:2")]
    for tag, step, value in scalars(record):
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        events.append(Event(wall_time=now, step=step, summary=summary))
    for event in events:
        writer.write(event.SerializeToString())
    path = events_file(folder, record.run)
    write_bytes(path, content.getvalue())
    return path


def scalars(record: RunRecord) -> Iterator[Scalar]:
    """The scalars of a run: tag, step and value.

    ==========================  ===================================  ===========================
    tag                         value                                step
    ==========================  ===================================  ===========================
    ``after_task/<accuracy>``   percent, as in the published files   tasks learned
    ``after_epoch/<accuracy>``  the same                             readings of all tasks so far
    ``classes_of_task/<n>``     percent on the classes of task n     tasks learned
    ``run/<figure>``            as in ``metrics.json``               tasks learned
    ==========================  ===================================  ===========================
    """
    reading, tasks = 0, len(record.scores)
    for task, epochs in enumerate(record.scores):
        for score in epochs:
            reading += 1
            for key, value in score.accuracy.items():
                yield f"after_epoch/{_name(key)}", reading, value
        for key, value in record.after(task).accuracy.items():
            yield f"after_task/{_name(key)}", task + 1, value
        for number, value in enumerate(record.after(task).by_task, 1):
            if value is not None:
                yield f"classes_of_task/{number:02}", task + 1, value
    for name, value in record.figures().items():
        if value is not None:
            yield f"run/{name}", tasks, value


def _name(key: tuple[int, str, str]) -> str:
    k, test, path = key
    return f"top{k}_{test}_{path}"
