"""A few quantised feature vectors per class, on which a learner tests itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crumb.codebook.nearest import nearest_blocks
from crumb.memory.checked import check_finite, check_forms
from crumb.seeds import generator

SLICE = 4
"""Length of a memory block."""
BLOCKS = 256
"""Number of memory blocks: an index takes one byte."""
_STALE = 1.15
"""Factor by which the standard deviations may change before all vectors are re-encoded."""


class ClassCrumbs:
    """Codes of a random sample of feature vectors of each class.

    A vector is centred and scaled by the mean and spread of all vectors so far, cut into slices of
    four numbers, and each slice is replaced by the index of the nearest of 256 memory blocks.
    Unlike CRUMB's, blocks are compared by distance, not by dot product: a code then keeps the
    length of a slice, which a distance depends on. The blocks are normally distributed. They follow
    from the seed, so they cost no memory. The codes lose a fifth of the variance within classes.

    The sample is a reservoir (Vitter 1985): each frame of a class is in it with the same
    probability.

    Args:
        dimensions: dimensions of the vectors.
        each: vectors kept of a class.
        seed: seed of the blocks.
        draws: draws of the reservoir (CPU).
        device: where the codes are kept.

    Attributes:
        codes: uint8 [classes, each, slices].
        held: int16 [classes], number of vectors of each class.
        reference: float16 [2, dimensions], centre and spread used to encode vectors.
    """

    def __init__(
        self,
        dimensions: int,
        each: int,
        seed: int,
        draws: torch.Generator,
        device: torch.device,
    ) -> None:
        slices = -(-dimensions // SLICE)
        self.codes = torch.zeros(0, each, slices, dtype=torch.uint8, device=device)
        self.held = torch.zeros(0, dtype=torch.int16, device=device)
        self.reference = torch.zeros(2, dimensions, dtype=torch.float16, device=device)
        blocks = torch.randn(BLOCKS, SLICE, generator=generator(seed, "crumbs"))
        self._blocks = blocks.to(device)
        # The nearest block has the largest s.b - |b|^2 / 2, so one matrix product is enough.
        self._directions = torch.cat([blocks.T, -blocks.square().sum(1)[None] / 2]).to(device)
        self._draws = draws

    @property
    def each(self) -> int:
        """Maximum number of vectors per class."""
        return self.codes.shape[1]

    @property
    def blocks(self) -> Tensor:
        """The memory blocks, float32 [256, 4], which follow from the seed."""
        return self._blocks

    @property
    def nbytes(self) -> int:
        """Bytes of the codes."""
        return self.codes.nbytes

    @property
    def reading_bytes(self) -> int:
        """Bytes needed to decode the codes."""
        return self.held.nbytes + self.reference.nbytes

    @staticmethod
    def bytes_for(classes: int, dimensions: int, each: int) -> int:
        """Bytes of this many classes, including the bytes needed to decode them."""
        return classes * (each * -(-dimensions // SLICE) + 2) + 4 * dimensions

    @torch.no_grad()
    def offer(self, vectors: Tensor, labels: Tensor, seen: Tensor) -> None:
        """Reservoir sampling: each frame may replace another.

        Args:
            vectors: float32 [B, dimensions].
            labels: int64 [B].
            seen: frames of each class before these, integers [classes].
        """
        counts, chosen = seen.tolist(), {}
        for row, label in enumerate(labels.tolist()):
            place = counts[label]
            if place >= self.each:
                place = int(torch.randint(place + 1, (), generator=self._draws))
            if place < self.each:
                chosen[label, place] = row
            counts[label] += 1
        if chosen:
            at, places = torch.tensor(list(chosen)).to(self.codes.device).T
            rows = torch.tensor(list(chosen.values())).to(vectors.device)
            self.codes[at, places] = self._encode(vectors[rows])
        self.held = self.held.new_tensor([min(count, self.each) for count in counts])

    def refer(self, centre: Tensor, spread: Tensor) -> None:
        """Use this centre and spread for coding if the current ones are stale.

        Args:
            centre: float32 [dimensions].
            spread: float32 [dimensions], standard deviations.
        """
        before = self.reference[1].float()
        change = (spread / before).log().abs().mean()
        # NaN while the spread is zero.
        if not change <= math.log(_STALE):
            vectors = self._decode(self.codes)
            self.reference = torch.stack([centre, spread]).to(torch.float16)
            self.codes = self._encode(vectors)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """All vectors, decoded, float32 [n, dimensions], and their labels, int64 [n]."""
        places = torch.arange(self.each, device=self.held.device)
        labels, rows = (places < self.held[:, None]).nonzero(as_tuple=True)
        return self._decode(self.codes[labels, rows]), labels

    def _encode(self, vectors: Tensor) -> Tensor:
        """Float32 [..., dimensions] to uint8 [..., slices]."""
        centre, spread = self.reference.float()
        scaled = (vectors - centre) / spread.clamp(min=torch.finfo(torch.float16).tiny)
        missing = -scaled.shape[-1] % SLICE
        slices = torch.nn.functional.pad(scaled, (0, missing)).view(-1, SLICE)
        slices = torch.cat([slices, slices.new_ones(len(slices), 1)], 1)
        nearest = nearest_blocks(slices, self._directions)
        return nearest.to(torch.uint8).view(*vectors.shape[:-1], -1)

    def _decode(self, codes: Tensor) -> Tensor:
        centre, spread = self.reference.float()
        scaled = self._blocks[codes.int()].flatten(-2)[..., : len(centre)]
        return scaled * spread + centre

    def make_room(self, classes: int, each: int) -> None:
        """Allocate this number of classes, and keep at most this number of vectors per class."""
        missing = max(0, classes - len(self.held))
        codes = self.codes[:, :each].clone()
        for label, count in enumerate(self.held.tolist()):
            # A subset of a random sample must itself be drawn at random.
            if count > each:
                codes[label] = self.codes[label, self._drawn(count, each)]
        self.codes = torch.cat([codes, codes.new_zeros(missing, *codes.shape[1:])])
        held = self.held.clamp(max=codes.shape[1])
        self.held = torch.cat([held, held.new_zeros(missing)])

    def _drawn(self, count: int, kept: int) -> Tensor:
        """Draw positions below ``count`` at random, without replacement."""
        return torch.randperm(count, generator=self._draws)[:kept].to(self.codes.device)

    def drop(self, dimensions: int) -> None:
        """Keep the leading dimensions."""
        self.reference = self.reference[:, :dimensions].clone()
        self.codes = self.codes[..., : -(-dimensions // SLICE)].clone()

    def forget(self, label: int) -> None:
        """Remove a class; later ones move up."""
        kept = [other for other in range(len(self.held)) if other != label]
        self.codes, self.held = self.codes[kept], self.held[kept]

    def merge(self, label: int, other: int, frames: tuple[int, int]) -> None:
        """Merge class ``other`` into ``label``: sample from both in proportion to their frames."""
        one, two = (int(self.held[n]) for n in (label, other))
        first = round(self.each * frames[0] / max(sum(frames), 1))
        first = max(min(first, one), min(one, self.each - two))
        second = min(two, self.each - first)
        both = torch.cat(
            [
                self.codes[label, self._drawn(one, first)],
                self.codes[other, self._drawn(two, second)],
            ]
        )
        self.codes[label, : len(both)] = both
        self.held[label] = len(both)
        self.forget(other)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors."""
        return {name: getattr(self, name) for name in ("codes", "held", "reference")}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the codes of :meth:`state_dict`.

        Raises:
            ValueError: the number of classes, vectors or dimensions differs, or values are out of
                range.
        """
        check_forms(state, self.state_dict())
        check_finite(state)
        if bool(((state["held"] < 0) | (state["held"] > self.each)).any()):
            raise ValueError("held is not a number of crumbs")
        for name, value in state.items():
            setattr(self, name, value.to(self.codes.device).clone())
