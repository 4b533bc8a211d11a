"""Read a task in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from crumb.data.batches import Batch
from crumb.data.protocol import Frames
from crumb.features.features import FeatureStore
from crumb.features.store import Request
from crumb.stream.interruption import raise_noted

# Number of batches that are prefetched while the learner works on an earlier one.
_AHEAD = 2


@dataclass(frozen=True)
class Reading:
    """One pass over frames in order, in batches (see :class:`crumb.data.batches.Batches`).

    Attributes:
        frames: the frames to read.
        store: source of features and pixels.
        batch_size: size of all batches but the last.
        with_images: whether batches hold pixels too.
        first_pass: whether the frames are read for the first time.
        start: number of the first batch, when earlier ones were read before.
    """

    frames: Frames
    store: FeatureStore
    batch_size: int
    with_images: bool = False
    first_pass: bool = True
    start: int = 0

    def __len__(self) -> int:
        return -(-len(self.frames.paths) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        waiting: deque[tuple[int, Request, Request | None]] = deque()
        try:
            for number in range(self.start, len(self)):
                raise_noted()
                for ahead in range(number + len(waiting), min(number + _AHEAD + 1, len(self))):
                    waiting.append((ahead, *self._request(ahead)))
                yield self._batch(*waiting.popleft())
        finally:
            for _, *requests in waiting:
                for request in requests:
                    if request is not None:
                        request.cancel()

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """The same frames in a random order, in batches."""
        order = torch.randperm(len(self.frames.paths), generator=generator).numpy()
        paths = tuple(self.frames.paths[place] for place in order)
        return iter(replace(self, frames=Frames(paths, self.frames.labels[order])))

    def paths(self, batch: int) -> tuple[str, ...]:
        """The paths of one batch."""
        return self.frames.paths[batch * self.batch_size : (batch + 1) * self.batch_size]

    def _request(self, batch: int) -> tuple[Request, Request | None]:
        paths = self.paths(batch)
        pixels = self.store.pixels.request(paths) if self.with_images else None
        return self.store.request(paths), pixels

    def _batch(self, batch: int, features: Request, pixels: Request | None) -> Batch:
        start = batch * self.batch_size
        labels = torch.from_numpy(self.frames.labels[start : start + self.batch_size])
        images = None if pixels is None else self.store.pixels.finish(pixels)
        return Batch(labels, self.store.finish(features), images, self.first_pass)


class CountedReading:
    """A pass that counts the images it hands out, however often a learner iterates over it."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.images = 0

    @property
    def batch_size(self) -> int:
        """Size of all batches but the last."""
        return self._reading.batch_size

    def __len__(self) -> int:
        return len(self._reading)

    def __iter__(self) -> Iterator[Batch]:
        return self._counted(iter(self._reading))

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """The same frames in a random order, in batches."""
        return self._counted(self._reading.shuffled(generator))

    def _counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.images += len(batch)
            yield batch
