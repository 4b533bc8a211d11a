"""What a learner answers: names and probabilities for images, clips and files."""

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
    """What a learner takes something for.

    Attributes:
        name: the most likely class, or "unknown".
        probability: of that class, from 0 to 1; None for "unknown", which is no class.
        runner_up: the class that is next, or empty; after "unknown" the most likely one.
        runner_up_probability: of that one.
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
    name, chance = learner.classes[best], float(chances[best])
    if limits is not None and -2 * float(scores[best]) > float(limits[best]):
        return Verdict(UNKNOWN, None, name, chance)
    if not others:
        return Verdict(name, chance, "", 0.0)
    return Verdict(name, chance, learner.classes[others[0]], float(chances[others[0]]))


def limits_of(learner: Learner, unknown_share: float | None) -> Tensor | None:
    """Limits for :func:`verdict`; None where no share is given.

    Raises:
        InputError: the share is out of range, the method measures no distances, or it has kept
            too little to measure them on.
    """
    if unknown_share is None:
        return None
    share: float = given("unknown_share", unknown_share, float)
    require("unknown_share", share, 0 < share < 1, "between 0 and 1")
    if (found := learner.distance_limits(share)) is None:
        problem = f"needs a learner of slda, this is one of {learner.name}"
        raise InputError(setting("unknown_share", share), problem, "leave it out")
    if not found.isfinite().all():
        problem = "cannot be measured: there are no crumbs, or one frame of each class"
        raise InputError(setting("unknown_share", share), problem, "teach it more, with crumbs")
    return found


def answers(learner: Learner, what: Any, batch_size: int) -> Iterator[Tensor]:
    """Scores, [classes], of each image, or of each file as a whole.

    Raises:
        InputError: no class has been met, or something cannot be read.
    """
    return map(together, frame_scores(learner, what, batch_size))


def frame_scores(learner: Learner, what: Any, batch_size: int) -> Iterator[Tensor]:
    """Scores, [frames, classes], of each image or of the frames of each file.

    Raises:
        InputError: no class has been met, or something cannot be read.
    """
    if not learner.classes:
        raise InputError("predict", "no class has been observed yet", "call observe first")
    preprocessing = learner.network.preprocessing
    size, resize = preprocessing.size, preprocessing.resize
    if (paths := paths_in(what)) is not None:
        for path in paths:
            yield scores_of(learner, pixels_of_file(path, size, resize), batch_size)
        return
    yield from scores_of(learner, as_images(what, size, resize), batch_size).split(1)


def best(learner: Learner, scores: Tensor, count: int) -> list[tuple[str, float]]:
    """The most likely classes and their probabilities, best first."""
    chances = probabilities(learner, scores)
    order = chances.sort(descending=True, stable=True).indices[:count].tolist()
    return [(learner.classes[label], float(chances[label])) for label in order]
