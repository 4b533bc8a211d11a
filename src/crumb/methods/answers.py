"""Predictions of a learner: names and probabilities for images, clips and files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crumb.data.images import as_images
from crumb.data.names import UNKNOWN
from crumb.data.shown import paths_in, pixels_of_file
from crumb.errors import InputError, require, setting
from crumb.kinds import given

if TYPE_CHECKING:
    from crumb.methods.base import Learner


@dataclass(frozen=True)
class Verdict:
    """The prediction for one image or clip.

    Attributes:
        name: the most likely class, or "unknown".
        probability: its probability, from 0 to 1; None for "unknown".
        runner_up: the second most likely class, or empty; after "unknown" the most likely one.
        runner_up_probability: its probability.
    """

    name: str
    probability: float | None
    runner_up: str
    runner_up_probability: float


def scores_of(learner: Learner, pixels: Tensor, batch_size: int = 32) -> Tensor:
    """Scores of frames, uint8 [n, 3, S, S], as float32 [n, classes] on the CPU.

    Raises:
        InputError: the learner has seen no frame of any class.
    """
    with learner.evaluation():
        found = [
            learner.scores(learner.features(part.to(learner.device))).float()
            for part in pixels.split(batch_size)
        ]
    scores = torch.cat(found).cpu()
    if (scores == -torch.inf).all():
        raise InputError("predict", "no frame has been observed yet", "call observe first")
    return scores


def together(scores: Tensor) -> Tensor:
    """Scores of a whole clip, [classes], from those of its frames, [frames, classes].

    It is their mean: frames of a clip resemble each other, so the sum would be overconfident.
    """
    return scores.double().mean(0)


def probabilities(learner: Learner, scores: Tensor) -> Tensor:
    """Class probabilities, float64 [..., classes], from scores [..., classes]."""
    return (scores.double() / learner.temperature).softmax(-1)


def verdict(learner: Learner, scores: Tensor, limits: Tensor | None = None) -> Verdict:
    """The prediction for scores [classes].

    Args:
        learner: the learner that gave the scores.
        scores: scores of one frame or clip.
        limits: squared distance from each class beyond which the answer is "unknown", if wanted.
    """
    chances = probabilities(learner, scores)
    best, *others = chances.sort(descending=True, stable=True).indices.tolist()
    name, chance = learner.classes[best], float(chances[best])
    if limits is not None and -2 * float(scores[best]) > float(limits[best]):
        return Verdict(UNKNOWN, None, name, chance)
    if not others:
        return Verdict(name, chance, "", 0.0)
    return Verdict(name, chance, learner.classes[others[0]], float(chances[others[0]]))


def limits_of(learner: Learner, unknown_share: float | None) -> Tensor | None:
    """Distance limits for :func:`verdict`; None if no share is given.

    Raises:
        InputError: the share is out of range, the method measures no distances, or too few features
            are stored to measure them.
    """
    if unknown_share is None:
        return None
    share: float = given("unknown_share", unknown_share, float)
    require("unknown_share", share, 0 < share < 1, "between 0 and 1")
    if (found := learner.distance_limits(share)) is None:
        problem = f"needs a learner of slda, but this is one of {learner.name}"
        raise InputError(setting("unknown_share", share), problem, "leave it out")
    if not found.isfinite().all():
        problem = "cannot be measured: the model stores no features, or saw one frame per class"
        raise InputError(
            setting("unknown_share", share),
            problem,
            "teach it more clips with crumbs_per_class above 0",
        )
    return found


def answers(learner: Learner, what: Any, batch_size: int) -> Iterator[Tensor]:
    """Scores, [classes], of each image or whole file.

    Raises:
        InputError: no class has been observed, or an input cannot be read.
    """
    return map(together, frame_scores(learner, what, batch_size))


def frame_scores(learner: Learner, what: Any, batch_size: int) -> Iterator[Tensor]:
    """Scores, [frames, classes], of each image or of the frames of each file.

    Raises:
        InputError: no class has been observed, or an input cannot be read.
    """
    if not learner.classes:
        raise InputError("predict", "no class has been observed yet", "call observe first")
    square = learner.network.preprocessing.square
    if (paths := paths_in(what)) is not None:
        for path in paths:
            yield scores_of(learner, pixels_of_file(path, *square), batch_size)
        return
    yield from scores_of(learner, as_images(what, *square), batch_size).split(1)


def best(learner: Learner, scores: Tensor, count: int) -> list[tuple[str, float]]:
    """The most likely classes and their probabilities, best first."""
    chances = probabilities(learner, scores)
    order = chances.sort(descending=True, stable=True).indices[:count].tolist()
    return [(learner.classes[label], float(chances[label])) for label in order]
