"""What a learner answers: names and probabilities for images, clips and files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crumb.data.images import as_images
from crumb.data.shown import paths_in, pixels_of_file
from crumb.errors import InputError, require, setting
from crumb.kinds import given

if TYPE_CHECKING:
    from crumb.methods.base import Learner

UNKNOWN = "unknown"
"""The answer to what is too far from every class, where that is asked for."""


@dataclass(frozen=True)
class Verdict:
    """What a learner takes something for.

    Attributes:
        name: the most likely class, or "unknown".
        probability: of the most likely class, from 0 to 1.
        runner_up: the class that is next, or empty.
        runner_up_probability: of that one.
    """

    name: str
    probability: float
    runner_up: str
    runner_up_probability: float


def scores_of(learner: Learner, pixels: Tensor, batch_size: int = 32) -> Tensor:
    """Scores of frames, uint8 [n, 3, S, S], as float32 [n, classes] on the CPU."""
    with learner.evaluation():
        found = [
            learner.scores(learner.features(part.to(learner.device))).float()
            for part in pixels.split(batch_size)
        ]
    return torch.cat(found).cpu()


def together(scores: Tensor) -> Tensor:
    """Scores of a whole clip, [classes], from those of its frames, [frames, classes].

    Their mean: frames of one clip resemble each other, so their sum would be far too sure.
    """
    return scores.double().mean(0)


def probabilities(learner: Learner, scores: Tensor) -> Tensor:
    """Of each class, float64 [..., classes], from scores [..., classes]."""
    return (scores.double() / learner.temperature).softmax(-1)


def verdict(learner: Learner, scores: Tensor, limits: Tensor | None = None) -> Verdict:
    """What a learner makes of scores [classes].

    Args:
        learner: whose scores they are.
        scores: of one frame, or of a clip.
        limits: squared distance from each class beyond which it is none of them, if that is asked.
    """
    chances = probabilities(learner, scores)
    best, *others = chances.sort(descending=True, stable=True).indices.tolist()
    far = limits is not None and -2 * float(scores[best]) > float(limits[best])
    return Verdict(
        UNKNOWN if far else learner.classes[best],
        float(chances[best]),
        learner.classes[others[0]] if others else "",
        float(chances[others[0]]) if others else 0.0,
    )


def limits_of(learner: Learner, unknown_share: float | None) -> Tensor | None:
    """Limits for :func:`verdict`; None where no share is given.

    Raises:
        InputError: the share is out of range, or the method measures no distances.
    """
    if unknown_share is None:
        return None
    share: float = given("unknown_share", unknown_share, float)
    require("unknown_share", share, 0 < share < 1, "between 0 and 1")
    if (found := learner.distance_limits(share)) is None:
        problem = f"needs a learner of slda, this is one of {learner.name}"
        raise InputError(setting("unknown_share", share), problem, "leave it out")
    return found


def answers(learner: Learner, what: Any, batch_size: int) -> Iterator[Tensor]:
    """Scores, [classes], of each image, or of each file as a whole.

    Raises:
        InputError: no class has been met, or something cannot be read.
    """
    if not learner.classes:
        raise InputError("predict", "no class has been observed yet", "call observe first")
    preprocessing = learner.network.preprocessing
    size, resize = preprocessing.size, preprocessing.resize
    if (paths := paths_in(what)) is not None:
        for path in paths:
            pixels = pixels_of_file(path, size, resize)
            yield together(scores_of(learner, pixels, batch_size))
        return
    yield from scores_of(learner, as_images(what, size, resize), batch_size)


def best(learner: Learner, scores: Tensor, count: int) -> list[tuple[str, float]]:
    """The most likely classes and their probabilities, best first."""
    chances = probabilities(learner, scores)
    order = chances.sort(descending=True, stable=True).indices[:count].tolist()
    return [(learner.classes[label], float(chances[label])) for label in order]
