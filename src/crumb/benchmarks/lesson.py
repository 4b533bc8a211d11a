"""Row ``slda``: time of a lesson and of the first prediction after it, compared with the front.

The learner has the default method and budget. The front is the part of the network before the cut,
which every method computes for every frame. ``observe`` also computes the rest of the network
except the head, and updates the statistics. The first prediction after a lesson solves for the
classifier.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import interleaved, seconds, timed
from crumb.benchmarks.workplace import BATCH_SIZE, Workplace
from crumb.methods.registry import DEFAULT_SETTINGS
from crumb.methods.slda import SldaConfig, StreamingLda
from crumb.nets.backbones import build_network
from crumb.nets.fronts import use_engine

FRAMES = 100
"""Number of frames in a lesson."""
BEYOND_FRONT = 0.020
"""Maximum seconds of the first prediction after a lesson, in addition to the front."""
_CLASSES = 10
_LESSON = 1.15


def measure(place: Workplace) -> list[Comparison]:
    """Ratios of a lesson, and of the first prediction after it, to the front alone."""
    learner = taught(place)
    return [_observing(learner, place), _predicting(learner, place)]


def taught(place: Workplace) -> StreamingLda:
    """A learner that has seen a few frames of each class."""
    setting = place.setting
    config = SldaConfig(**DEFAULT_SETTINGS, classes_expected=_CLASSES)
    network = build_network(setting.network)
    learner = StreamingLda(network, config, device=setting.device)
    use_engine(network, setting.network.engine)
    names = [f"class {number}" for number in range(_CLASSES)]
    learner.observe(frames(learner, 2 * _CLASSES), 2 * names)
    return learner


def frames(learner: StreamingLda, count: int) -> Tensor:
    """Random images of the network's input size, uint8 [count, 3, S, S]."""
    side = learner.network.preprocessing.size
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, side, side)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def front(learner: StreamingLda, pixels: Tensor) -> Callable[[], None]:
    """The front alone, with the same batch size as ``observe``."""

    def run() -> None:
        for part in pixels.split(BATCH_SIZE):
            learner.network.features(part.to(learner.device))

    return run


def _observing(learner: StreamingLda, place: Workplace) -> Comparison:
    lesson, device = frames(learner, FRAMES), place.setting.device
    calls: dict[str, Callable[[], object]] = {
        "observe": lambda: learner.observe(lesson, learner.classes[0], BATCH_SIZE),
        "front": front(learner, lesson),
    }
    taken = interleaved(timed(calls, device), place.setting.repeats, "slda, observe")
    return Comparison(
        "slda",
        f"observe {FRAMES} frames, over the front",
        [Figure(name, taken[name]) for name in calls],
        at_most=_LESSON,
        details={"budget_bytes": learner.config.budget_bytes, "dimensions": learner.dimensions},
    )


def _predicting(learner: StreamingLda, place: Workplace) -> Comparison:
    one, device = frames(learner, 1), place.setting.device

    def first_prediction() -> float:
        learner.observe(one, learner.classes[0])
        return seconds(lambda: learner.predict(one), device)

    turns = {
        "first prediction": first_prediction,
        **timed({"front": front(learner, one)}, device),
    }
    taken = interleaved(turns, place.setting.repeats, "slda, predict")
    beyond = 1000 * (taken["first prediction"] - taken["front"])
    return Comparison(
        "slda",
        "first prediction after a lesson, over the front",
        [Figure(name, taken[name]) for name in turns],
        details={"milliseconds_beyond_the_front": beyond, "dimensions": learner.dimensions},
        note=f"the first prediction takes {beyond:.1f} ms beyond the front (wanted: less than "
        f"{1000 * BEYOND_FRONT:.0f})",
    )
