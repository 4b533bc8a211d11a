"""Product quantisation of feature maps, and exemplars stored as codes.

Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011; for feature
maps: Hayes, Kafle, Shrestha, Acharya, Kanan, "REMIND Your Neural Network to Prevent Catastrophic
Forgetting", ECCV 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crumb.codebook.nearest import nearest_blocks
from crumb.data.batches import Batch, Batches
from crumb.errors import InputError, setting
from crumb.memory.replay import take
from crumb.progress import bar

MAX_CENTROIDS = 256
"""Maximum number of centroids: one byte per code."""
VECTORS_PER_CENTROID = 256
"""Number of sample vectors per centroid for k-means."""
ITERATIONS = 25
"""Maximum number of k-means iterations."""


class ProductQuantiser:
    """Replaces parts of the channel vector at each position by the nearest learned centroid.

    The C channels at a position are cut into M sub-vectors of C / M channels. Each of the M
    sub-vectors has its own K centroids, which all positions share. A feature map is stored as the
    indices of the nearest centroids, each in ceil(log2 K) bits, ordered by row, column, sub-vector:
    H * W * M bytes for 256 centroids, half of that for 16. Centroids are stored in half precision.
    Distances and reconstructions are computed from them in float32.

    Args:
        feature_shape: (C, H, W) of the feature maps.
        codebooks: number of sub-vectors, M, which divides C.
        centroids: number of centroids per sub-vector, K, at most 256.
        device: device on which feature maps are encoded.

    Attributes:
        centroids: float16 [M, K, C / M]; zeros until they are learned.
        ready: whether centroids have been learned.
        bits: bits of an index.
        code_length: bytes of the code of a feature map.

    Raises:
        InputError: M does not divide C.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int, int],
        codebooks: int,
        centroids: int,
        device: torch.device | str = "cpu",
    ) -> None:
        assert centroids <= MAX_CENTROIDS
        channels, height, width = feature_shape
        check_codebooks(codebooks, channels)
        self.feature_shape = feature_shape
        size = (codebooks, centroids, channels // codebooks)
        self.centroids = torch.zeros(size, dtype=torch.half, device=device)
        self.ready = False
        self.bits = max(1, (centroids - 1).bit_length())
        self._numbers = height * width * codebooks
        self.code_length = -(-self._numbers * self.bits // 8)

    @property
    def nbytes(self) -> int:
        """Bytes of the centroids, which are needed to decode."""
        return self.centroids.nbytes

    def fit(self, batches: Batches, generator: torch.Generator) -> None:
        """Learn the centroids from a random sample of the channel vectors of a task.

        The sample is spread evenly over the batches and holds at most 256 vectors per centroid. It
        may have fewer vectors than centroids. Centroids are always computed on the CPU, so the same
        features give the same centroids with every device.

        Args:
            batches: batches of the task, read once. There is at least one.
            generator: generator of the sample and the first centroids (CPU).
        """
        codebooks, count, _ = self.centroids.shape
        vectors = sample_vectors(batches, VECTORS_PER_CENTROID * count, generator)
        parts = vectors.unflatten(1, (codebooks, -1)).unbind(1)
        shown = bar(parts, "quantiser", "sub-vector", leave=False)
        fitted = [kmeans(part.contiguous(), count, generator) for part in shown]
        self.begin_with(torch.stack(fitted))

    def begin_with(self, centroids: Tensor) -> None:
        """Set the centroids, float [M, K, C / M], in half precision."""
        most = torch.finfo(torch.half).max
        self.centroids = torch.empty_like(self.centroids).copy_(centroids.clamp(-most, most))
        self.ready = True

    def encode(self, features: Tensor) -> Tensor:
        """Indices of the nearest centroids, packed.

        Args:
            features: float32 [B, C, H, W].

        Returns:
            uint8 [B, code_length].
        """
        codebooks, _, length = self.centroids.shape
        # In channels-last memory, the format of feature maps, this copies nothing.
        parts = features.permute(0, 2, 3, 1).reshape(-1, codebooks, length).unbind(1)
        numbers = [
            nearest_centroids(part, own).byte()
            for part, own in zip(parts, self.centroids.float(), strict=True)
        ]
        return packed(torch.stack(numbers, 1).view(len(features), self._numbers), self.bits)

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstruct feature maps from codes.

        Args:
            codes: uint8 [B, code_length].

        Returns:
            float32 [B, C, H, W] in channels-last memory.
        """
        channels, height, width = self.feature_shape
        codebooks, count, _ = self.centroids.shape
        first = torch.arange(0, codebooks * count, count, dtype=torch.int32, device=codes.device)
        numbers = unpacked(codes, self.bits, self._numbers).view(-1, codebooks).int() + first
        rows = functional.embedding(numbers, self.centroids.flatten(0, 1)).float()
        return rows.view(len(codes), height, width, channels).permute(0, 3, 1, 2)

    def state_dict(self) -> dict[str, Tensor]:
        """The centroids, and whether they have been learned."""
        return {"centroids": self.centroids, "ready": torch.tensor(self.ready)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a :meth:`state_dict` of a quantiser of the same size."""
        self.begin_with(state["centroids"])
        self.ready = bool(state["ready"])


def packed(numbers: Tensor, bits: int) -> Tensor:
    """Pack numbers of a few bits without gaps, the first one in the highest bits.

    Args:
        numbers: uint8 [B, n], below 2^bits.
        bits: bits per number, from 1 to 8.

    Returns:
        uint8 [B, ceil(n * bits / 8)]. Unused bits of the last byte are zero.
    """
    if bits == 8:
        return numbers
    each = (numbers[..., None] >> _places(bits, numbers) & 1).flatten(1)
    filled = functional.pad(each, (0, -each.shape[1] % 8)).unflatten(1, (-1, 8))
    return (filled << _places(8, numbers)).sum(-1, dtype=torch.uint8)


def unpacked(codes: Tensor, bits: int, count: int) -> Tensor:
    """Unpack the numbers of :func:`packed`, uint8 [B, count].

    Args:
        codes: uint8 [B, ceil(count * bits / 8)].
        bits: bits per number.
        count: number of values per row.
    """
    if bits == 8:
        return codes
    each = (codes[..., None] >> _places(8, codes) & 1).flatten(1)[:, : count * bits]
    return (each.unflatten(1, (count, bits)) << _places(bits, codes)).sum(-1, dtype=torch.uint8)


def _places(bits: int, like: Tensor) -> Tensor:
    """Bit shifts from the highest to the lowest bit: uint8 [bits]."""
    return torch.arange(bits - 1, -1, -1, dtype=torch.uint8, device=like.device)


def sample_vectors(batches: Batches, most: int, generator: torch.Generator) -> Tensor:
    """Channel vectors of a task, drawn without replacement, equally many from each batch.

    Args:
        batches: batches of the task, read once.
        most: maximum number of vectors.
        generator: generator of the choice (CPU).

    Returns:
        float32 [n, C] on the CPU.
    """
    sample: list[Tensor] = []
    count = len(batches)
    for number, batch in enumerate(bar(batches, "sample", "batch", leave=False)):
        # These shares add up to ``most`` for any number of batches.
        share = (number + 1) * most // count - number * most // count
        vectors = batch.features.permute(0, 2, 3, 1).flatten(0, 2)
        places = torch.randperm(len(vectors), generator=generator)[:share]
        sample.append(take(vectors, places).cpu())
    return torch.cat(sample)


def nearest_centroids(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid by Euclidean distance, the first one among equals.

    If distances are equal up to rounding, any of these centroids may be chosen. Distances are
    compared a few megabytes at a time.

    Args:
        vectors: float32 [n, d].
        centroids: float32 [K, d].

    Returns:
        integers [n].
    """
    # |v - c|^2 is smallest where v.c - |c|^2 / 2 is largest. The common term |v|^2 would only lose
    # digits.
    middle = centroids.mean(0)
    moved = centroids - middle
    directions = torch.cat([moved.T, -moved.square().sum(1)[None] / 2])
    return nearest_blocks(functional.pad(vectors - middle, (0, 1), value=1.0), directions)


def kmeans(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Centroids by Lloyd's algorithm, from vectors drawn without replacement.

    A centroid that is nearest to no vector is moved to the vector that is farthest from its own
    centroid. If there are fewer vectors than centroids, each distinct vector is a centroid, and the
    other centroids repeat some of them.

    Args:
        vectors: float32 [n, d] on the CPU, n at least 1.
        count: number of centroids, K.
        generator: generator of the initial centroids (CPU).

    Returns:
        float32 [K, d].
    """
    order = torch.randperm(len(vectors), generator=generator)
    centroids = vectors[order.repeat(-(-count // len(order)))[:count]]
    nearest = None
    for _ in range(ITERATIONS):
        before, nearest = nearest, nearest_centroids(vectors, centroids)
        if before is not None and torch.equal(nearest, before):
            break
        centroids = _means(vectors, nearest, centroids)
    return centroids


def _means(vectors: Tensor, nearest: Tensor, centroids: Tensor) -> Tensor:
    """The mean of the vectors of each centroid. Centroids without vectors are moved."""
    count = len(centroids)
    sizes = torch.bincount(nearest, minlength=count)
    sums = [torch.bincount(nearest, column.double(), count) for column in vectors.unbind(1)]
    means = (torch.stack(sums, 1) / sizes.clamp(min=1)[:, None]).float()
    empty = (sizes == 0).nonzero().flatten()
    means[empty] = centroids[empty]
    if len(empty):
        gaps = (vectors - means[nearest]).square().sum(1)
        farthest = gaps.topk(min(len(empty), len(vectors))).indices
        farthest = farthest[gaps[farthest] > 0]
        means[empty[: len(farthest)]] = vectors[farthest]
    return means


def centroid_bytes(channels: int, centroids: int) -> int:
    """Bytes of a quantiser in half precision, for any number of sub-vectors."""
    return 2 * channels * centroids


def check_codebooks(codebooks: int, channels: int) -> None:
    """Refuse a number of sub-vectors that does not divide the number of channels.

    Raises:
        InputError: lists the numbers that do.
    """
    if codebooks < 1 or channels % codebooks:
        fitting = [str(n) for n in range(1, channels + 1) if channels % n == 0]
        raise InputError(
            setting("pq_codebooks", codebooks),
            f"does not divide the {channels} channels at the cut",
            f"choose one of {', '.join(fitting)}",
        )


class QuantisedStorage:
    """Exemplars stored as codes of a product quantiser.

    Args:
        quantiser: the quantiser that encodes and decodes them.
    """

    dtype = torch.uint8

    def __init__(self, quantiser: ProductQuantiser) -> None:
        self._quantiser = quantiser
        self.row_shape: tuple[int, ...] = (quantiser.code_length,)

    @property
    def reader_bytes(self) -> int:
        """Bytes of the quantiser."""
        return self._quantiser.nbytes

    def encode(self, batch: Batch) -> Tensor:
        """Encode feature maps, uint8 [B, code_length]."""
        return self._quantiser.encode(batch.features)

    def features(self, rows: Tensor) -> Tensor:
        """Reconstruct feature maps from codes."""
        return self._quantiser.decode(rows)
