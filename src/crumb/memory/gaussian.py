"""MeRec: a Gaussian per class instead of exemplars."""

from __future__ import annotations

import torch
from torch import Tensor

from crumb.data.batches import Batch, Batches


class GaussianMemory:
    """Keeps only the mean and variance of each class's feature maps.

    Replay draws from the diagonal Gaussian. Mean and (population) variance are updated batch by
    batch with the pairwise form of Welford's algorithm. There is no capacity: each class needs two
    feature maps.

    Args:
        feature_shape: (C, H, W).
        device: device of the means and variances.
        on_arrival: add each frame as it arrives, not in a second pass over the task.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        device: torch.device | str,
        on_arrival: bool = False,
    ) -> None:
        self._shape, self._device, self._on_arrival = feature_shape, device, on_arrival
        self._count: dict[int, int] = {}
        self._mean: dict[int, Tensor] = {}
        self._squares: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._count)

    @property
    def nbytes(self) -> int:
        """Bytes of the means and variances."""
        return sum(t.nbytes for table in (self._mean, self._squares) for t in table.values())

    @property
    def bookkeeping_bytes(self) -> int:
        """Bytes of the counts: label and number of frames, 16 bytes per class."""
        return 16 * len(self._count)

    @property
    def reader_bytes(self) -> int:
        """No shared bytes."""
        return 0

    @property
    def reading_bytes(self) -> int:
        """Bytes of the counts, which replay needs."""
        return self.bookkeeping_bytes

    def count(self, label: int) -> int:
        """Number of frames seen of one class."""
        return self._count.get(label, 0)

    def on_batch(self, batch: Batch) -> None:
        """Add a batch of the first pass, if frames are stored on arrival."""
        if self._on_arrival and batch.first_pass:
            self.offer(batch.features, batch.labels)

    def on_task_end(self, batches: Batches, classes: int) -> None:
        """Add a finished task, unless frames are stored on arrival."""
        if not self._on_arrival:
            for batch in batches:
                self.offer(batch.features, batch.labels)

    def check_room(self, classes: int) -> None:
        """Any number of classes fits."""

    def offer(self, features: Tensor, labels: Tensor) -> None:
        """Add frames: float [B, C, H, W], int64 [B]."""
        for label in labels.unique().tolist():
            self._merge(label, features[labels == label].to(self._device))

    def _merge(self, label: int, new: Tensor) -> None:
        mean, squares = new.mean(0), new.var(0, correction=0) * len(new)
        old = self._count.get(label, 0)
        if old:
            total = old + len(new)
            shift = mean - self._mean[label]
            squares = self._squares[label] + squares + shift.square() * (old * len(new) / total)
            mean = self._mean[label] + shift * (len(new) / total)
        self._count[label] = old + len(new)
        self._mean[label], self._squares[label] = mean, squares

    def draw(self, labels: list[int], generator: torch.Generator) -> Tensor:
        """One feature map for each entry of ``labels``, float32 [len(labels), C, H, W].

        Args:
            labels: labels of classes that have been seen.
            generator: generator of the noise (CPU).
        """
        noise = torch.randn((len(labels), *self._shape), generator=generator).to(self._device)
        mean = torch.stack([self._mean[label] for label in labels])
        variance = torch.stack([self._squares[label] / self._count[label] for label in labels])
        return mean + noise * variance.sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        """Counts, means and summed squared deviations, class by class."""
        table = [[label, count] for label, count in self._count.items()]
        empty = torch.empty((0, *self._shape))
        return {
            "counts": torch.tensor(table, dtype=torch.int64).view(-1, 2),
            "mean": torch.stack(list(self._mean.values())) if table else empty,
            "squares": torch.stack(list(self._squares.values())) if table else empty,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the statistics of :meth:`state_dict`."""
        labels = [label for label, _ in state["counts"].tolist()]
        self._count = dict(state["counts"].tolist())
        for name, table in (("mean", self._mean), ("squares", self._squares)):
            table.clear()
            table.update(zip(labels, state[name].to(self._device), strict=True))
