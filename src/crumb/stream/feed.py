"""Reading a task as batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from crumb.data.batches import Batch
from crumb.data.protocol import Frames
from crumb.stream.features import FeatureStore


@dataclass(frozen=True)
class Reading:
    """One reading of some frames, in order, in batches (see :class:`crumb.data.batches.Batches`).

    Attributes:
        frames: what is read.
        store: where features and pixels come from.
        batch_size: of all batches but the last.
        with_images: hand out pixels as well.
        first_pass: the frames are read for the first time.
    """

    frames: Frames
    store: FeatureStore
    batch_size: int
    with_images: bool = False
    first_pass: bool = True

    def __len__(self) -> int:
        return -(-len(self.frames.paths) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.frames.paths), self.batch_size):
            paths = self.paths(start // self.batch_size)
            labels = torch.from_numpy(self.frames.labels[start : start + self.batch_size])
            features = self.store.features(paths)
            images = self.store.pixels(paths) if self.with_images else None
            yield Batch(labels.to(features.device), features, images, self.first_pass)

    def paths(self, batch: int) -> tuple[str, ...]:
        """The paths of one batch."""
        return self.frames.paths[batch * self.batch_size : (batch + 1) * self.batch_size]


def choose(frames: Frames, mask: np.ndarray) -> Frames:
    """The frames where ``mask`` (bool, (n,)) is true, in order."""
    chosen = np.flatnonzero(mask)
    return Frames(tuple(frames.paths[i] for i in chosen), frames.labels[chosen])
