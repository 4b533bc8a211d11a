"""What learner files of older versions mean today."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from torch import Tensor

FORMERLY: dict[str, Any] = {"trained_outputs": "all"}
"""What a method did before there was a setting for it."""
IMAGES_FORMERLY: dict[str, Any] = {"jpeg_quality": 0, "new_as_stored": False}
"""The same for methods that store images: pixels, and new images as they are."""
DROPPED = ("lr_milestones", "lr_factor")
"""Settings that there were, and that changed nothing."""


LATER = ("present.shown", "present.known", "previous.shown", "optimizer.group.0.lr")
"""Tensors that older versions did not keep, and without which a learner goes on as they did."""
EARLIER = ("shown",)
"""Tensors that older versions kept, and that nothing reads any more."""


def settings_of_today(saved: dict[str, Any], known: Set[str]) -> dict[str, Any]:
    """The settings in a file, with those that it is too old to have.

    Args:
        saved: as written.
        known: names of the method's settings today.
    """
    settings = {name: value for name, value in saved.items() if name not in DROPPED}
    formerly = dict(FORMERLY)
    if saved.get("storage") == "image":
        formerly |= IMAGES_FORMERLY
    missing = {name: value for name, value in formerly.items() if name in known - saved.keys()}
    return settings | missing


def method_of_today(method: str, saved: dict[str, Any]) -> str:
    """The name of the method that a file is of: A-GEM on arrival is A-GEM-R today."""
    on_arrival = saved.get("write_policy") in ("on-arrival", "reservoir")
    return "agem_r" if method == "agem" and on_arrival else method


def tensors_of_today(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Numbers beside exemplars (scores of GSS, labels of GEM) were memories of their own."""
    for name, now in (("scores", "score"), ("classes", "label")):
        if (found := tensors.get(f"memory.{name}.rows")) is not None:
            kept = {key: value for key, value in tensors.items() if f"memory.{name}." not in key}
            return kept | {f"memory.payload.{now}": found}
    if (found := tensors.get("memory.beside")) is not None:
        # Scores have fractions, labels have none.
        now = "score" if found.is_floating_point() else "label"
        kept = {key: value for key, value in tensors.items() if key != "memory.beside"}
        return kept | {f"memory.payload.{now}": found}
    return tensors
