"""Translate learner files of older versions."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from torch import Tensor

from crumb.data.resize import FILTERS, RESIZES
from crumb.nets.backbones import settled
from crumb.nets.config import NetworkConfig, Preprocessing

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
# Pixels a side; the most of any published network is 1,024.
_LARGEST = 4096


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


def preprocessing_of(network: NetworkConfig, about: Mapping[str, Any]) -> Preprocessing:
    """How a saved learner sees images.

    Files of before there were several filters are of bilinear ones, of 224 pixels for all networks
    of torchvision; still older ones squashed all images, and did not write it down.

    Args:
        network: its network.
        about: what its file says of it.

    Raises:
        InputError: there is no such network.
        ValueError: the file says what cannot be.
    """
    backbone, _ = settled(network)
    usual, resize = backbone.preprocessing, about.get("resize", "squash")
    if resize not in RESIZES:
        raise ValueError(f"images cannot be made square by {str(resize)[:20]!r}")
    if "interpolation" not in about:
        usual = Preprocessing() if backbone.library == "torchvision" else usual
        return replace(usual, resize=resize, interpolation="bilinear")
    interpolation, size = about["interpolation"], about.get("size")
    if interpolation not in FILTERS:
        raise ValueError(f"images cannot be resized by {str(interpolation)[:20]!r}")
    # A wrong number could ask for more memory than there is.
    if not isinstance(size, int) or not 1 <= size <= _LARGEST:
        raise ValueError(f"its images cannot have {str(size)[:20]!r} pixels a side")
    return replace(usual, size=size, resize=resize, interpolation=interpolation)


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
