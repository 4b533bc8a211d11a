"""Row ``avalanche``: the same stream with Avalanche's Replay strategy.

Both train the same tail on the same features, with the same batch size, optimizer, number of epochs
and number of exemplars. All exemplars are raw feature maps. Neither has a codebook, and neither is
tested. They replay differently: Avalanche appends the same number of exemplars to each batch and
makes one step. CRUMB makes a second step on exemplars of the classes that are not in the batch, and
clips gradients. Avalanche shuffles each task, has outputs for all classes from the start, and fills
its memory without a second pass. After the first task, both pass two images through the tail for
each training image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch.utils.data import TensorDataset

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import interleaved, seconds
from crumb.benchmarks.workplace import BATCH_SIZE, ShortStream, Workplace
from crumb.methods.base import Learner

NOT_INSTALLED = "not installed: pip install 'crumb-learn[bench]'"
MEMORY_SIZE = 200
# Number of epochs of each of the two tasks.
_EPOCHS = (2, 1)


class Features(TensorDataset):
    """Feature maps and labels, with the attribute that Avalanche requires.

    Attributes:
        targets: label of each feature map.
    """

    def __init__(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        super().__init__(features, labels)
        self.targets: list[int] = labels.tolist()


def measure(place: Workplace) -> list[Comparison]:
    """Ratio of the seconds per training image, Avalanche to Crumb, or why there is none."""
    what = "a training image, same tail and features"
    if find_spec("avalanche") is None:
        return [Comparison("avalanche", what, note=NOT_INSTALLED)]
    short = place.short
    try:
        theirs(place)
    # Foreign code may fail in any way with a newer torch. The other rows must still be measured.
    except Exception as error:
        problem = " ".join(f"does not run: {type(error).__name__}: {error}".split())
        return [Comparison("avalanche", what, note=problem)]
    images = sum(
        len(frames.paths) * epochs
        for frames, epochs in zip(short.tasks.tasks, _EPOCHS, strict=True)
    )
    turns = {"avalanche": partial(theirs, place), "crumb": partial(ours, place)}
    taken = interleaved(turns, place.setting.repeats, "avalanche")
    per_image = {name: Figure(name, taken[name] / images) for name in turns}
    details = {"avalanche": version("avalanche-lib"), "images": images, "memory_size": MEMORY_SIZE}
    figures = (per_image["avalanche"], per_image["crumb"])
    return [Comparison("avalanche", what, figures, details=details)]


def ours(place: Workplace) -> float:
    """Seconds of learning and storing by CRUMB without a codebook."""
    short = place.short
    learner = place.learner(
        len(short.tasks.classes), storage="raw_feature", memory_size=MEMORY_SIZE
    )
    return seconds(lambda: _learn(learner, short), place.setting.device)


def _learn(learner: Learner, short: ShortStream) -> None:
    for task, epochs in enumerate(_EPOCHS):
        learner.begin_task(short.classes(task))
        for epoch in range(epochs):
            short.read(learner, task, epoch)
        learner.end_task(short.reading(task))


def theirs(place: Workplace) -> float:
    """Seconds of learning and storing by Avalanche."""
    learner = place.learner(len(place.short.tasks.classes))
    # It warns about its own deprecated names, whatever the filters are. The caller can ignore this.
    with warnings.catch_warnings(record=True):
        return seconds(_trainer(learner, place), place.setting.device)


def _trainer(learner: Learner, place: Workplace) -> Callable[[], None]:
    """Train the strategy on both tasks. The network wrapper keeps batch norm fixed, as in Crumb."""
    # Imported here because it is an extra and takes seconds to import.
    from avalanche.benchmarks import nc_benchmark  # pyright: ignore[reportMissingImports]
    from avalanche.training.plugins import (  # pyright: ignore[reportMissingImports]
        EvaluationPlugin,
    )
    from avalanche.training.supervised import Replay  # pyright: ignore[reportMissingImports]

    network, config = learner.network, learner.config
    tasks = [_dataset(place.short, task) for task in range(len(_EPOCHS))]
    scenario = nc_benchmark(
        tasks, tasks, len(tasks), False, shuffle=False, one_dataset_per_exp=True
    )
    optimizer = torch.optim.SGD(
        network.tail.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    strategy = Replay(
        model=network,
        optimizer=optimizer,
        criterion=torch.nn.CrossEntropyLoss(),
        mem_size=MEMORY_SIZE,
        train_mb_size=BATCH_SIZE,
        device=place.setting.device,
        evaluator=EvaluationPlugin(),
        eval_every=-1,
    )

    def train() -> None:
        for experience, epochs in zip(scenario.train_stream, _EPOCHS, strict=True):
            strategy.train_epochs = epochs
            strategy.train(experience)

    return train


def _dataset(short: ShortStream, task: int) -> Features:
    batches = list(short.reading(task))
    features = torch.cat([batch.features for batch in batches])
    return Features(features, torch.cat([batch.labels for batch in batches]))
