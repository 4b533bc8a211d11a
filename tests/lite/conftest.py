"""Taught learners of the tiny network, and their exported folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crumb.methods.exporting import export
from crumb.methods.registry import find_method
from crumb.teaching.lesson import show
from crumb.testing.networks import images_of, tiny_network

COLOURS = ("red", "green", "blue")


def arrays(label: int, count: int, seed: int = 0) -> list[np.ndarray]:
    """The images of :func:`images_of` as crumb-lite takes them."""
    return [*images_of(label, count, seed).permute(0, 2, 3, 1).contiguous().numpy()]


def taught(name: str, classes: int = 3, **settings: Any) -> Any:
    """A learner that has seen 40 images of each class."""
    kind = find_method(name)
    learner = kind(tiny_network(), kind.Config(**settings), 3)
    for label in range(classes):
        show(learner, images_of(label, 40), COLOURS[label])
    return learner


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[Any], Path]:
    """Exports a learner."""

    def exported(learner: Any) -> Path:
        export(learner, tmp_path / "device", "the learner")
        return tmp_path / "device"

    return exported
