"""The user-facing calls of a learner: images and class names in, class names out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.data.images import as_images
from crumb.data.names import class_name
from crumb.data.shown import check_file, is_path, paths_in, pixels_of_file
from crumb.device import usual_torch
from crumb.errors import InputError, setting, shown
from crumb.kinds import whole_number
from crumb.memory.capacity import second_pass
from crumb.methods.answers import (
    answers,
    best,
    frame_scores,
    limits_of,
    probabilities,
    together,
    verdict,
)
from crumb.methods.confidence import fit_temperature

if TYPE_CHECKING:
    from crumb.methods.base import Learner


@usual_torch()
def observe(
    learner: Learner, what: Any, labels: Any, batch_size: int, classes: Any = ()
) -> dict[str, float]:
    """See :meth:`Teachable.observe`. ``classes`` are added first, unless the call fails."""
    first = _met_first(classes)
    if learner.needs_task_boundaries or learner.offline:
        raise _unable_to_observe(learner)
    size = whole_number("batch_size", batch_size, 1)
    square = learner.network.preprocessing.square
    paths = paths_in(what)
    if paths is None:
        pixels = as_images(what, *square)
        names = _names(labels, len(pixels))
        learner.add_classes(first)
        return _learn(learner, pixels, names, size)
    names = _names(labels, len(paths), "paths")
    # Check all inputs before learning anything.
    for path in paths:
        check_file(path)
    losses: dict[str, float] = {}
    for path, name in zip(paths, names, strict=True):
        pixels = pixels_of_file(path, *square)
        learner.add_classes(first)
        losses = _learn(learner, pixels, [name] * len(pixels), size)
    return losses


def _learn(learner: Learner, pixels: Tensor, names: list[str], size: int) -> dict[str, float]:
    learner.checks_losses = True
    losses: dict[str, Tensor] = {}
    for start in range(0, len(pixels), size):
        part = names[start : start + size]
        learner.add_classes(part)
        index = torch.tensor([learner.classes.index(name) for name in part])
        batch = pixels[start : start + size].to(learner.device)
        losses = learner.learn(Batch(index, learner.features(batch), batch))
    return {name: value.item() for name, value in losses.items()}


def _unable_to_observe(learner: Learner) -> InputError:
    method = setting("method", learner.name)
    if learner.offline:
        return InputError(
            method,
            "trains on all data so far at each task, but observe keeps no data",
            f"use {setting('method', 'er')} or {setting('method', 'crumb')}, or crumb stream",
        )
    found = second_pass(learner.config)
    if found is None or type(learner).needs_task_boundaries:
        return InputError(
            method,
            "needs task boundaries, which observe does not provide",
            "call begin_task, learn and end_task, or crumb stream",
        )
    name, given, single = found
    return InputError(
        setting(name, given),
        "needs task ends, which observe does not provide",
        f"create the learner with {setting(name, single)}",
    )


@usual_torch()
def predict(learner: Learner, what: Any, batch_size: int, unknown_share: float | None) -> Any:
    """See :meth:`Teachable.predict`."""
    size = whole_number("batch_size", batch_size, 1)
    limits = limits_of(learner, unknown_share)
    found = [verdict(learner, scores, limits).name for scores in answers(learner, what, size)]
    return found[0] if is_path(what) else found


@usual_torch()
def predict_proba(learner: Learner, what: Any, batch_size: int) -> np.ndarray:
    """See :meth:`Teachable.predict_proba`."""
    size = whole_number("batch_size", batch_size, 1)
    scores = torch.stack(list(answers(learner, what, size)))
    return probabilities(learner, scores).numpy()


@usual_torch()
def top(learner: Learner, what: Any, k: int, batch_size: int) -> list[list[tuple[str, float]]]:
    """See :meth:`Teachable.top`."""
    size, count = whole_number("batch_size", batch_size, 1), whole_number("k", k, 1)
    return [best(learner, scores, count) for scores in answers(learner, what, size)]


@usual_torch()
def calibrate(learner: Learner, what: Any, labels: Any, batch_size: int) -> float:
    """See :meth:`Teachable.calibrate`."""
    size = whole_number("batch_size", batch_size, 1)
    found = list(frame_scores(learner, what, size))
    names = _names(labels, len(found), "images or clips")
    truth = torch.tensor([learner.label_of(name) for name in names])
    scores = torch.stack([together(one) for one in found])
    if not scores.gather(1, truth[:, None]).isfinite().all():
        raise InputError("labels", "name a class without frames", "observe it first")
    learner.temperature = fit_temperature(scores, truth, 1 / (len(scores) + 2))
    learner.measure_reach(found, truth.tolist())
    return learner.temperature


def _met_first(classes: Any) -> list[str]:
    classes = _plain(classes)
    return _listed([classes] if isinstance(classes, str) else classes)


def _names(labels: Any, count: int, what: str = "images") -> list[str]:
    """One class name per input."""
    labels = _plain(labels)
    names = _listed([labels] * count if isinstance(labels, str) else labels)
    if len(names) != count:
        raise InputError("labels", f"{len(names)} for {count} {what}", "give one for each")
    return names


def _plain(labels: Any) -> Any:
    """Convert arrays, tensors and table columns to Python lists."""
    known = hasattr(labels, "tolist") and not isinstance(labels, type)
    return labels.tolist() if known else labels


def _listed(labels: Any) -> list[str]:
    """Class names as a list."""
    if isinstance(labels, (Set, Mapping)):
        raise InputError("labels", f"a {type(labels).__name__}", "give a list, which has an order")
    names = list(labels) if isinstance(labels, Iterable) else [labels]
    if unusable := [name for name in names if not isinstance(name, str) or not name]:
        problem = f"{shown(unusable[0])} is not a class name"
        raise InputError("labels", problem, "give non-empty strings")
    known = {name: class_name(str(name), "labels") for name in dict.fromkeys(names)}
    return [known[name] for name in names]
