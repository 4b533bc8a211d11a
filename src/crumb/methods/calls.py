"""What users call on a learner: images and class names in, class names out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.data.images import as_images
from crumb.device import usual_torch
from crumb.errors import InputError, setting, shown
from crumb.kinds import whole_number
from crumb.methods.base import Learner


@usual_torch()
def observe(learner: Learner, images: Any, labels: Any, batch_size: int) -> dict[str, float]:
    """See :meth:`Learner.observe`."""
    if learner.needs_task_boundaries or learner.offline:
        raise _unable_to_observe(learner)
    size = whole_number("batch_size", batch_size, 1)
    preprocessing = learner.network.preprocessing
    pixels = as_images(images, preprocessing.size, preprocessing.resize)
    names = _names(labels, len(pixels))
    learner.checks_losses = True
    losses: dict[str, Tensor] = {}
    for start in range(0, len(pixels), size):
        part = names[start : start + size]
        learner.meet(part)
        index = torch.tensor([learner.classes.index(name) for name in part])
        batch = pixels[start : start + size].to(learner.device)
        losses = learner.learn(Batch(index, learner.network.features(batch), batch))
    return {name: value.item() for name, value in losses.items()}


def _unable_to_observe(learner: Learner) -> InputError:
    method = setting("method", learner.name)
    if learner.offline:
        return InputError(
            method,
            "trains on everything so far at each task, which observe does not keep",
            f"use {setting('method', 'er')} or {setting('method', 'crumb')}, or crumb stream",
        )
    if type(learner).needs_task_boundaries:
        return InputError(
            method,
            "must be told when tasks begin and end, and observe is not",
            "call begin_task, learn and end_task, or crumb stream",
        )
    return InputError(
        setting("write_policy", "end-of-task"),
        "stores nothing in observe",
        f"create or load the learner with {setting('write_policy', 'on-arrival')}",
    )


@usual_torch()
def predict(learner: Learner, images: Any, batch_size: int) -> list[str]:
    """See :meth:`Learner.predict`."""
    if not learner.classes:
        raise InputError("predict", "no class has been observed yet", "call observe first")
    size = whole_number("batch_size", batch_size, 1)
    preprocessing = learner.network.preprocessing
    pixels = as_images(images, preprocessing.size, preprocessing.resize)
    best: list[int] = []
    with learner.evaluation():
        for part in pixels.split(size):
            scores = learner.scores(learner.network.features(part.to(learner.device)))
            best.extend(scores.argmax(1).tolist())
    return [learner.classes[label] for label in best]


def _names(labels: Any, count: int) -> list[str]:
    """A class name for each of so many images."""
    if hasattr(labels, "tolist"):
        labels = labels.tolist()
    if isinstance(labels, (Set, Mapping)):
        raise InputError("labels", f"a {type(labels).__name__}", "give a list, which has an order")
    if isinstance(labels, str):
        labels = [labels] * count
    names = list(labels) if isinstance(labels, Iterable) else [labels]
    if unusable := [name for name in names if not isinstance(name, str) or not name]:
        problem = f"{shown(unusable[0])} is no class name"
        raise InputError("labels", problem, "give non-empty strings")
    if len(names) != count:
        raise InputError("labels", f"{len(names)} for {count} images", "give one for each")
    return [str(name) for name in names]
