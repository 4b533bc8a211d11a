"""Translate learner files of older versions."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from torch import Tensor

FORMERLY: dict[str, Any] = {"trained_outputs": "all"}
"""Behaviour of methods before these settings existed."""
IMAGES_FORMERLY: dict[str, Any] = {"jpeg_quality": 0, "new_as_stored": False}
"""The same for methods that store images: raw pixels, new images unchanged."""
DROPPED = ("lr_milestones", "lr_factor")
"""Removed settings that had no effect."""


LATER = ("present.shown", "present.known", "previous.shown", "optimizer.group.0.lr")
"""Tensors that older versions lack. Without them a learner behaves as before."""
EARLIER = ("shown",)
"""Tensors of older versions that are no longer used."""


def settings_of_today(saved: dict[str, Any], known: Set[str]) -> dict[str, Any]:
    """The settings in a file, with the missing newer ones added.

    Args:
        saved: as written.
        known: names of the method's current settings.
    """
    settings = {name: value for name, value in saved.items() if name not in DROPPED}
    formerly = dict(FORMERLY)
    if saved.get("storage") == "image":
        formerly |= IMAGES_FORMERLY
    missing = {name: value for name, value in formerly.items() if name in known - saved.keys()}
    return settings | missing


def method_of_today(method: str, saved: dict[str, Any]) -> str:
    """The current name of a file's method: A-GEM on arrival is now A-GEM-R."""
    on_arrival = saved.get("write_policy") in ("on-arrival", "reservoir")
    return "agem_r" if method == "agem" and on_arrival else method


def tensors_of_today(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the numbers that old versions stored with exemplars (scores of GSS, labels of GEM)."""
    for name, now in (("scores", "score"), ("classes", "label")):
        if (found := tensors.get(f"memory.{name}.rows")) is not None:
            kept = {key: value for key, value in tensors.items() if f"memory.{name}." not in key}
            return kept | {f"memory.payload.{now}": found}
    if (found := tensors.get("memory.beside")) is not None:
        # Scores are floats, labels are integers.
        now = "score" if found.is_floating_point() else "label"
        kept = {key: value for key, value in tensors.items() if key != "memory.beside"}
        return kept | {f"memory.payload.{now}": found}
    return tensors
