"""A few quantised feature vectors per class, on which a model tests itself."""

from __future__ import annotations

import math

import numpy as np

SLICE = 4
"""Length of a memory block."""
_STALE = 1.15
"""Factor by which the standard deviations may change before all vectors are re-encoded."""


class Sample:
    """Codes of a random sample of feature vectors of each class.

    The sample of ``crumb.memory.crumbs.ClassCrumbs``: a slice of four numbers is replaced by the
    index of the nearest memory block.

    Args:
        state: ``codes``, uint8 [classes, each, slices]; ``held``, int16 [classes]; ``reference``,
            float16 [2, d], centre and spread.
        blocks: memory blocks, float32 [256, 4].
    """

    def __init__(self, state: dict[str, np.ndarray], blocks: np.ndarray) -> None:
        self.codes, self.held, self.reference = (state[n] for n in ("codes", "held", "reference"))
        self.blocks = blocks

    def state(self) -> dict[str, np.ndarray]:
        """All arrays but the blocks."""
        return {"codes": self.codes, "held": self.held, "reference": self.reference}

    @property
    def each(self) -> int:
        """Maximum number of vectors per class."""
        return self.codes.shape[1]

    def offer(self, vectors: np.ndarray, label: int, seen: int, draws: np.random.Generator) -> None:
        """Reservoir sampling (Vitter 1985): each frame may replace another.

        Args:
            vectors: float32 [B, d], frames of one class.
            label: the class.
            seen: frames of this class before these.
            draws: generator of the sample.
        """
        for count, vector in enumerate(vectors, seen):
            place = count if count < self.each else int(draws.integers(count + 1))
            if place < self.each:
                self.codes[label, place] = self._encode(vector)
        self.held[label] = min(seen + len(vectors), self.each)

    def refer(self, centre: np.ndarray, spread: np.ndarray) -> None:
        """Use this centre and spread, float32 [d] each, if the current ones are stale."""
        before = self.reference[1].astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.abs(np.log(spread / before)).mean()
        # NaN while the spread is zero.
        if not change <= math.log(_STALE):
            vectors = self._decode(self.codes)
            self.reference = np.stack([centre, spread]).astype(np.float16)
            self.codes = self._encode(vectors)

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """All decoded vectors, float32 [n, d], and labels, int64 [n]."""
        labels, rows = np.nonzero(np.arange(self.each) < self.held[:, None])
        return self._decode(self.codes[labels, rows]), labels

    def _encode(self, vectors: np.ndarray) -> np.ndarray:
        """Float32 [..., d] to uint8 [..., slices]."""
        centre, spread = self.reference.astype(np.float32)
        scaled = (vectors - centre) / spread.clip(np.finfo(np.float16).tiny)
        missing = -scaled.shape[-1] % SLICE
        slices = np.pad(scaled.reshape(-1, len(centre)), ((0, 0), (0, missing)))
        similarity = slices.reshape(-1, SLICE) @ self.blocks.T - np.square(self.blocks).sum(1) / 2
        nearest = similarity.argmax(1).astype(np.uint8)
        return nearest.reshape(*vectors.shape[:-1], -1)

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        centre, spread = self.reference.astype(np.float32)
        scaled = self.blocks[codes].reshape(*codes.shape[:-1], -1)[..., : len(centre)]
        return scaled * spread + centre

    def make_room(self, classes: int, each: int, draws: np.random.Generator) -> None:
        """Rows for ``classes`` classes; of each class at most ``each`` vectors."""
        codes = self.codes[:, :each].copy()
        for label, count in enumerate(self.held.tolist()):
            # A subset of a random sample must itself be drawn at random.
            if count > each:
                codes[label] = self.codes[label, draws.permutation(count)[:each]]
        missing = max(0, classes - len(self.held))
        self.codes = np.pad(codes, ((0, missing), (0, 0), (0, 0)))
        self.held = np.pad(self.held.clip(max=codes.shape[1]), (0, missing))

    def drop(self, dimensions: int) -> None:
        """Keep the leading dimensions."""
        self.reference = self.reference[:, :dimensions]
        self.codes = self.codes[..., : -(-dimensions // SLICE)]

    def forget(self, label: int) -> None:
        """Remove a class; later ones move up."""
        self.codes, self.held = (np.delete(x, label, 0) for x in (self.codes, self.held))
