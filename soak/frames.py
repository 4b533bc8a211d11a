"""A long run over generated features. The memory and the time of a step must not grow."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from crumb.data.batches import Batch
from crumb.data.protocol import Frames, TaskList
from crumb.features.features import FeatureStore
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.nets.config import Backbone, NetworkConfig, Preprocessing
from crumb.nets.split import SplitNetwork
from crumb.stream.checkpoint import Checkpoints
from crumb.stream.config import StreamConfig
from crumb.stream.loop import Plan, run_once

BATCH_SIZE = 100
TASKS, _CLASSES_PER_TASK = 10, 2
CLASSES = TASKS * _CLASSES_PER_TASK
_MEMORY_SIZE = 500
# Number of successive frames of one class.
_CLIP = 250
_TEST_FRAMES_OF_A_CLASS = 20
_CHECKPOINT_BATCHES = 2_000
SMALLEST = 20_000
"""Minimum number of frames. A tenth of a shorter run says nothing."""
# Number of frames between measurements of resident memory.
BATCHES_OF_A_LOOK = 10
_CHANNELS, _SIDE = 16, 2
# The noise repeats only after as many frames as the product of two primes.
_NOISE_ROWS = (4093, 4099)
_NOISE = 1.0


class _Classifier(nn.Module):
    """3 x 4 x 4 images, 16 x 2 x 2 features at ``pool``, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _CHANNELS, 2, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(_CHANNELS, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(self.stem(images)).flatten(1))


def small_network() -> SplitNetwork:
    """Features of 16 x 2 x 2 and a linear head; the same weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = _Classifier()
    preprocessing = Preprocessing(2 * _SIDE)
    backbone = Backbone("soak", "tiny", "pool", preprocessing=preprocessing, block_length=4)
    return SplitNetwork(model, backbone, NetworkConfig("tiny", "pool", "random"))


class GeneratedFeatures(FeatureStore):
    """Features of numbered frames: the mean of the class plus noise that depends on the number.

    Nothing is cached: workers compute each requested batch.

    Args:
        network: network of the features.
        labels: (n,) int64, the label of each frame.
        seed: seed of means and noise.
    """

    def __init__(self, network: SplitNetwork, labels: np.ndarray, seed: int) -> None:
        super().__init__(network, Path(), workers=1)
        self.at_once = BATCH_SIZE
        generator = torch.Generator().manual_seed(seed)
        channels, height, width = network.feature_shape
        shape = (height, width, channels)
        self._labels = torch.from_numpy(labels)
        self._means = torch.randn(CLASSES, *shape, generator=generator)
        self._noise = [_NOISE * torch.randn(n, *shape, generator=generator) for n in _NOISE_ROWS]

    def compute(self, paths: Sequence[str]) -> Tensor:
        """float32 [n, H, W, C]."""
        numbers = torch.tensor([int(path) for path in paths])
        rows = self._means[self._labels[numbers]]
        for noise in self._noise:
            rows = rows + noise[numbers % len(noise)]
        return rows


class _Watched(Crumb):
    """CRUMB that records the time after each step, and sometimes the memory.

    Args:
        batches: number of batches of the run. All records are allocated before it starts.
        seed: seed of the learner.

    Attributes:
        ends: (batches, 2) seconds of processor time and on the clock after each step.
        resident: (n,) bytes of resident memory.
    """

    name = "watched"

    def __init__(self, batches: int, seed: int) -> None:
        config = CrumbConfig(lr=0.01, memory_size=_MEMORY_SIZE, write_policy="on-arrival")
        super().__init__(small_network(), config, seed)
        self.ends = np.zeros((batches, 2))
        self.resident = np.zeros(batches // BATCHES_OF_A_LOOK)
        self._learned = 0

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        losses = super().learn(batch)
        self.ends[self._learned] = time.process_time(), time.perf_counter()
        self._learned += 1
        look, rest = divmod(self._learned, BATCHES_OF_A_LOOK)
        if not rest:
            self.resident[look - 1] = resident_bytes()
        return losses


@dataclass(frozen=True)
class LongRun:
    """Measurements of a long run.

    Attributes:
        resident: (n,) bytes of resident memory, after every 1,000 frames.
        steps: (batches,) seconds of processor time from the end of one step to the end of the next,
            including reading, checkpoints and tests. Unlike wall time, it hardly depends on other
            work on the machine. The first is 0.
        seconds: wall time from the first step to the last.
        accuracy: final accuracy over all classes in percent.
    """

    resident: np.ndarray
    steps: np.ndarray
    seconds: float
    accuracy: float

    @property
    def frames(self) -> int:
        """Number of frames learned from."""
        return BATCH_SIZE * len(self.steps)

    @property
    def resident_before(self) -> float:
        """Median bytes in the second half of the first tenth.

        The median is used because memory varies by some MB.
        """
        tenth = _part(self.resident, 0)
        return float(np.median(tenth[len(tenth) // 2 :]))

    @property
    def resident_after(self) -> float:
        """Median bytes in the last tenth."""
        return float(np.median(_part(self.resident, 9)))

    @property
    def most_before(self) -> float:
        """Maximum bytes in the first tenth."""
        return float(_part(self.resident, 0).max())

    @property
    def most_after(self) -> float:
        """Maximum bytes in the last tenth."""
        return float(_part(self.resident, 9).max())

    @property
    def growth(self) -> float:
        """Relative growth of resident memory."""
        return self.resident_after / self.resident_before - 1

    @property
    def step_before(self) -> float:
        """Median seconds in the second tenth, because the first tenth starts without exemplars."""
        return float(np.median(_part(self.steps, 1)))

    @property
    def step_after(self) -> float:
        """Median seconds in the last tenth."""
        return float(np.median(_part(self.steps, 9)))

    @property
    def slowdown(self) -> float:
        """Time of a step in the last tenth, divided by that in the second."""
        return self.step_after / self.step_before


def _part(values: np.ndarray, tenth: int) -> np.ndarray:
    return values[len(values) * tenth // 10 : len(values) * (tenth + 1) // 10]


def run_frames(frames: int, seed: int) -> LongRun:
    """Stream generated features of 10 tasks of 2 classes each through CRUMB.

    Args:
        frames: number of frames of all tasks, at least ``SMALLEST``; rounded down to whole batches
            per task.
        seed: seed of features and learner.
    """
    of_a_task = frames // (TASKS * BATCH_SIZE) * BATCH_SIZE
    labels = _labels(of_a_task)
    learner = _Watched(TASKS * of_a_task // BATCH_SIZE, seed)
    tasks = _tasks(labels, of_a_task, seed)
    with tempfile.TemporaryDirectory(prefix="crumb-soak-") as folder:
        plan = Plan(
            tasks,
            [1] * TASKS,
            [np.zeros(of_a_task, bool)] * TASKS,
            BATCH_SIZE,
            learner,
            GeneratedFeatures(learner.network, labels, seed),
            StreamConfig(Path()),
            Checkpoints(Path(folder), tasks, batches=_CHECKPOINT_BATCHES),
        )
        record = run_once(plan)
    processor, clock = learner.ends.T
    accuracy = record.after(TASKS - 1).accuracy[1, "all", "direct"]
    steps, seconds = np.diff(processor, prepend=processor[0]), float(clock[-1] - clock[0])
    return LongRun(learner.resident, steps, seconds, accuracy)


def _labels(of_a_task: int) -> np.ndarray:
    """Labels of the training frames, in clips of one class, and of the test frames."""
    number = np.arange(TASKS * of_a_task)
    train = number // of_a_task * _CLASSES_PER_TASK + number // _CLIP % _CLASSES_PER_TASK
    return np.concatenate([train, np.repeat(np.arange(CLASSES), _TEST_FRAMES_OF_A_CLASS)])


def _tasks(labels: np.ndarray, of_a_task: int, seed: int) -> TaskList:
    *starts, end = range(0, (TASKS + 1) * of_a_task, of_a_task)
    return TaskList(
        protocol="class_instance",
        run=seed,
        offline=False,
        tasks=tuple(_frames(labels, start, start + of_a_task) for start in starts),
        test=_frames(labels, end, len(labels)),
        classes=tuple(f"class {label}" for label in range(CLASSES)),
    )


def _frames(labels: np.ndarray, start: int, end: int) -> Frames:
    return Frames(tuple(str(number) for number in range(start, end)), labels[start:end])


def resident_bytes() -> int:
    """Resident memory of this process, or its peak if the system gives only that."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()
