"""Batches of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Consecutive frames of a stream.

    Attributes:
        labels: indices of the learner's classes, int64 [B], always on the CPU, so reading them
            never waits for a GPU.
        features: feature maps of the images, float32 [B, C, H, W], on the device.
        images: images, uint8 [B, 3, S, S], on the device; only for learners that need them.
        first_pass: whether the frames are seen for the first time. On-arrival policies store frames
            only in the first pass.
    """

    labels: Tensor
    features: Tensor
    images: Tensor | None = None
    first_pass: bool = True

    def __len__(self) -> int:
        return len(self.labels)


class Batches(Protocol):
    """One pass over a task, in stream order."""

    @property
    def batch_size(self) -> int:
        """Size of all batches but the last, which may be smaller."""
        ...

    def __len__(self) -> int:
        """Number of batches."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """The batches, from the first frame to the last."""
        ...

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """Batches of the same frames in a random order, drawn from ``generator`` (CPU)."""
        ...
