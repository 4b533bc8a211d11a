"""The measurements of one run and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from crumb.errors import InputError
from crumb.files import read_json
from crumb.stream.metrics import backward_transfer, forgetting

FORMAT, VERSION = "crumb-results", 1
FIGURES = (
    "final_accuracy",
    "average_accuracy",
    "forgetting",
    "backward_transfer",
    "replay_bytes",
    "extra_bytes",
    "seconds",
    "images_per_second",
    "test_seconds",
    "feature_seconds",
    "checkpoint_seconds",
    "peak_memory_bytes",
    "gradient_steps",
    "tail_maps",
    "image_passes",
)


TESTS = ("all", "1st", "current_task")
PATHS = ("direct", "mem")


@dataclass(frozen=True)
class Score:
    """Results of one pass over the test images.

    Attributes:
        accuracy: accuracy in percent by (k, test, path): the k of top-k, one of ``TESTS``, one of
            the requested paths.
        by_task: top-1 accuracy in percent (direct path) on the classes introduced by each task so
            far; None for a task without new classes.
        by_class: the same for each class seen so far, by label; None if not recorded.
    """

    accuracy: dict[tuple[int, str, str], float]
    by_task: list[float | None]
    by_class: list[float] | None = None


@dataclass
class RunRecord:
    """All measurements of one run.

    Attributes:
        run: number of the run, which is its seed.
        classes: class names in label order.
        scores: scores by task, then epoch.
        reported: the reported epoch of each task (the last, or the best on held-out training
            images).
        statistics: rows of mem_stats.csv.
        replay_bytes: bytes of exemplars at the peak of total memory.
        extra_bytes: other bytes at that time.
        seconds: seconds of learning and storing.
        images: images learned from, counted once per epoch.
        peak_memory_bytes: peak memory of the process (on a GPU: of the GPU in this run).
        test_seconds: seconds of all tests.
        feature_seconds: seconds of computing or checking cached features, once for all runs and
            methods that share them.
        checkpoint_seconds: seconds of writing checkpoints.
        gradient_steps: number of gradient steps. None, here and below, in runs of old versions that
            did not count.
        tail_maps: feature maps passed through the tail while learning, including replay, teachers
            and exemplar selection but not tests.
        images_read_again: images read again at the end of tasks.
        distinct_images: number of different images learned from.
        images_lost: images that arrived while the learner was busy. None, here and below, without a
            stream rate.
        batch_seconds: seconds of a batch that decided which images were lost.
        confusion: (label, predicted label, number of test images) for each pair that occurs in the
            reported score after the last task (direct path, top-1). None if not recorded.
        finished: when it was written, in UTC, as 2026-11-30T06:56:21Z; None where an earlier
            version wrote it. Runs that differ in nothing else are equal.
    """

    run: int
    classes: list[str]
    scores: list[list[Score]] = field(default_factory=list)
    reported: list[int] = field(default_factory=list)
    statistics: list[dict[str, float]] = field(default_factory=list)
    replay_bytes: int = 0
    extra_bytes: int = 0
    seconds: float = 0.0
    images: int = 0
    peak_memory_bytes: int = 0
    test_seconds: float = 0.0
    feature_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    confusion: list[list[int]] | None = None
    gradient_steps: int | None = None
    tail_maps: int | None = None
    images_read_again: int | None = None
    distinct_images: int | None = None
    images_lost: int | None = None
    batch_seconds: float | None = None
    finished: str | None = field(default=None, compare=False)

    @property
    def image_passes(self) -> float | None:
        """Mean number of times that the stream showed an image, without replay."""
        if self.images_read_again is None or self.distinct_images is None:
            return None
        return (self.images + self.images_read_again) / self.distinct_images

    def after(self, task: int) -> Score:
        """The reported score of a task."""
        return self.scores[task][self.reported[task]]

    def curve(self, k: int = 1, test: str = "all", path: str = "direct") -> list[float]:
        """An accuracy after each task, in percent."""
        return [self.after(task).accuracy[k, test, path] for task in range(len(self.scores))]

    def matrix(self) -> list[list[float | None]]:
        """Accuracy after each task (row) on the classes of each task so far (column)."""
        return [self.after(task).by_task for task in range(len(self.scores))]

    def class_accuracy(self) -> list[list[float | None]] | None:
        """Accuracy in percent on each class (row, by label) after each task (column).

        Entries are None before the task that introduces the class. The result is None if not
        recorded.
        """
        tasks = [self.after(task).by_class for task in range(len(self.scores))]
        known = [by_class for by_class in tasks if by_class is not None]
        if len(known) < len(tasks):
            return None
        return [
            [by_class[label] if label < len(by_class) else None for by_class in known]
            for label in range(len(self.classes))
        ]

    def confusion_matrix(self) -> np.ndarray | None:
        """Test images by label (row) and predicted label (column), int64 [classes, classes]."""
        if self.confusion is None:
            return None
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for label, predicted, images in self.confusion:
            counts[label, predicted] = images
        return counts

    def figures(self) -> dict[str, float | None]:
        """The summary metrics of the run, as in ``metrics.json``."""
        tops = self.curve()
        matrix = self.matrix()
        values = (
            tops[-1],
            sum(tops) / len(tops),
            forgetting(matrix),
            backward_transfer(matrix),
            self.replay_bytes,
            self.extra_bytes,
            self.seconds,
            self.images / self.seconds,
            self.test_seconds,
            self.feature_seconds,
            self.checkpoint_seconds,
            self.peak_memory_bytes,
            self.gradient_steps,
            self.tail_maps,
            self.image_passes,
        )
        return dict(zip(FIGURES, values, strict=True))


def record_to_json(record: RunRecord) -> dict[str, Any]:
    """The record as JSON values."""
    value = asdict(record)
    value["scores"] = [
        [
            {
                "accuracy": {f"top{k}_{test}_{path}": v for (k, test, path), v in items},
                "by_task": score.by_task,
                "by_class": score.by_class,
            }
            for score in epochs
            for items in [score.accuracy.items()]
        ]
        for epochs in record.scores
    ]
    return value


def record_from_json(value: Mapping[str, Any]) -> RunRecord:
    """The inverse of :func:`record_to_json`.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: the data is damaged.
    """
    scores = [
        [
            Score(_accuracy_keys(score["accuracy"]), score["by_task"], score.get("by_class"))
            for score in epochs
        ]
        for epochs in value["scores"]
    ]
    return RunRecord(**{**value, "scores": scores})


def _accuracy_keys(table: dict[str, float]) -> dict[tuple[int, str, str], float]:
    keys = {f"{test}_{path}": (test, path) for test in TESTS for path in PATHS}
    found = {}
    for name, value in table.items():
        k, _, rest = name.removeprefix("top").partition("_")
        found[int(k), *keys[rest]] = value
    return found


# Larger than any number of bytes, and its square is still finite.
_LARGEST = float(1 << 62)


def read_record(path: Path) -> RunRecord:
    """Read a run written by :class:`~crumb.stream.results.Results`.

    Raises:
        InputError: the file is missing, damaged, renamed or of another format version.
    """
    remedy = "remove it to repeat the run"
    value = read_json(path, remedy)
    if (value.pop("format", None), value.pop("version", None)) != (FORMAT, VERSION):
        raise InputError(path, f"is not a run of format version {VERSION}", remedy)
    try:
        record = record_from_json(value)
        # Compute everything that the tables need, so that damage shows here.
        if type(record.run) is not int:
            raise TypeError(f"the number {record.run!r}")
        if record.finished is not None:
            datetime.fromisoformat(record.finished)
        _check_numbers(record)
        keys = [score.accuracy.keys() for epochs in record.scores for score in epochs]
        keys += [row.keys() for row in record.statistics]
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(path, f"is damaged ({error!r})", remedy) from error
    shapes = len({frozenset(part) for part in keys})
    if path.stem != f"run{record.run}" or shapes > 1 + bool(record.statistics):
        raise InputError(path, "is damaged or renamed", remedy)
    return record


def _check_numbers(record: RunRecord) -> None:
    """Raise ValueError unless all measurements are usable numbers."""
    values: list[object] = [*record.figures().values(), record.images_lost, record.batch_seconds]
    for score in (score for epochs in record.scores for score in epochs):
        values += [*score.accuracy.values(), *score.by_task, *(score.by_class or ())]
        if None in score.accuracy.values():
            raise ValueError("an accuracy is missing")
    values += [value for row in record.statistics for value in row.values()]
    # Fails if damaged.
    record.confusion_matrix()
    values += [number for row in record.confusion or () for number in row]
    for value in values:
        # NaN, the accuracy on no images, passes because its comparisons are false.
        known = isinstance(value, (int, float)) and not abs(value) > _LARGEST
        if value is not None and not known:
            raise ValueError(f"{value!r} instead of a number")
