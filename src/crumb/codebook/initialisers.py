"""Initial values of the memory blocks.

Names and formulas are those of the paper (Talbot et al. 2025). sigma is the standard deviation of
the backbone's feature maps, and rho is their share of exact zeros.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crumb.errors import InputError, setting
from crumb.nets.config import NetworkConfig

# The standard deviation of a half-normal distribution is 0.603 times its scale.
_HALF_NORMAL = 5 / 3


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of feature maps for the matched initialisers.

    Attributes:
        sigma: standard deviation over all activations.
        rho: share of activations that are exactly zero.
    """

    sigma: float
    rho: float

    @classmethod
    def measure(cls, features: Tensor) -> FeatureStatistics:
        """Measure the statistics on feature maps, float [B, C, H, W]."""
        return cls(features.std().item(), (features == 0).float().mean().item())


# Published values for SqueezeNet1.0 with ImageNet weights, by cut.
PUBLISHED = {
    ("squeezenet1_0", "features.12"): FeatureStatistics(14, 0.64),
    ("squeezenet1_0", "features.3"): FeatureStatistics(0.73, 0.25),
}
# Published values for a SqueezeNet with random initial weights.
_SCRATCH = FeatureStatistics(0.8523, 0.38)


def published_statistics(config: NetworkConfig) -> FeatureStatistics | None:
    """Published statistics of a pretrained network; None if there are none."""
    if config.weights != "pretrained":
        return None
    return PUBLISHED.get((config.backbone, config.cut or ""))


@dataclass(frozen=True)
class Request:
    """Inputs of an initialiser.

    Attributes:
        count: number of blocks, K.
        length: length of a block, D.
        generator: generator of the random numbers (CPU).
        features: float [B, C, H, W], the first batch.
        statistics: published or measured statistics of the features.
    """

    count: int
    length: int
    generator: torch.Generator
    features: Tensor
    statistics: FeatureStatistics

    def normal(self) -> Tensor:
        """Standard normal values, float [K, D]."""
        return torch.randn(self.count, self.length, generator=self.generator)


def _dense(request: Request, statistics: FeatureStatistics) -> Tensor:
    return (request.normal() * statistics.sigma * _HALF_NORMAL).abs()


def _sparse(request: Request, statistics: FeatureStatistics) -> Tensor:
    """The dense values with exactly round(rho * K * D) random entries set to zero."""
    values = _dense(request, statistics).flatten()
    zeros = round(statistics.rho * len(values))
    values[torch.randperm(len(values), generator=request.generator)[:zeros]] = 0
    return values.view(request.count, request.length)


def _every_permutation(request: Request, patterns: Tensor) -> Tensor:
    """Large values where the pattern is one, and a twentieth of them where it is zero."""
    large, small = (_dense(request, request.statistics) for _ in range(2))
    return patterns * large + (1 - patterns) * small * 0.05


def _all_patterns(request: Request) -> Tensor:
    """All binary rows of length D, as float [2^D, D]."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=request.length)))


def _every_permutation_shuffled(request: Request) -> Tensor:
    values = _every_permutation(request, _all_patterns(request)).flatten()
    order = torch.randperm(len(values), generator=request.generator)
    return values[order].view(request.count, request.length)


def _every_permutation_half(request: Request) -> Tensor:
    patterns = _all_patterns(request)
    kept = torch.randperm(len(patterns), generator=request.generator)[: request.count]
    return _every_permutation(request, patterns[kept])


def _sample_first_batch(request: Request) -> Tensor:
    """Entries drawn with replacement from all activations of the first batch."""
    pool = request.features.detach().cpu().flatten()
    size = (request.count, request.length)
    return pool[torch.randint(len(pool), size, generator=request.generator)].float()


def _sample_slices(request: Request) -> Tensor:
    """Whole slices of the first batch, drawn with replacement (not in the paper)."""
    slices = request.features.detach().cpu().permute(0, 2, 3, 1).reshape(-1, request.length)
    chosen = torch.randint(len(slices), (request.count,), generator=request.generator)
    return slices[chosen].float()


INITIALISERS: dict[str, Callable[[Request], Tensor]] = {
    "random_standard_normal": Request.normal,
    "normal_MobileNet": lambda request: 0.5 * request.normal(),
    "random_uniform": lambda request: torch.rand(
        request.count, request.length, generator=request.generator
    ),
    "random_distmatch_dense": lambda request: _dense(request, request.statistics),
    "random_distmatch_sparse": lambda request: _sparse(request, request.statistics),
    "random_distmatch_sparse_scratch_pretrain": lambda request: _sparse(request, _SCRATCH),
    "random_everyperm": lambda request: _every_permutation(request, _all_patterns(request)),
    "random_everyperm_shuffled": _every_permutation_shuffled,
    "random_everyperm_remove_half_rows": _every_permutation_half,
    "sample_first_batch": _sample_first_batch,
    "sample_slices": _sample_slices,
    "normal_matched": lambda request: request.normal() * request.statistics.sigma,
    "zeros": lambda request: torch.zeros(request.count, request.length),
}


# One in this many of all binary patterns of length D becomes a block.
_PATTERNS = {
    "random_everyperm": 1,
    "random_everyperm_shuffled": 1,
    "random_everyperm_remove_half_rows": 2,
}


def check_initialiser(name: str, count: int, length: int) -> None:
    """Refuse an unknown initialiser, or a number of blocks that it cannot make.

    Args:
        name: name of the initialiser.
        count: number of blocks, K.
        length: length of a block, D.

    Raises:
        InputError: lists the known names, or an example of K and D that work.
    """
    if name not in INITIALISERS:
        raise InputError(
            setting("initialiser", name),
            "no such initialiser",
            f"choose one of {', '.join(INITIALISERS)}",
        )
    if count < 1:
        raise InputError(setting("blocks", count), "must be at least 1", "the paper uses 256")
    share = _PATTERNS.get(name)
    if share is not None and (length > 16 or count * share != 2**length):
        raise InputError(
            setting("initialiser", name),
            f"needs 2^D / {share} blocks of length D, not {count} of {length}",
            f"choose {setting('blocks')} and {setting('block_length')} so, e.g. 256 and "
            f"{8 if share == 1 else 9}, or another initialiser",
        )


def initial_blocks(
    name: str,
    count: int,
    length: int,
    features: Tensor,
    generator: torch.Generator,
    published: FeatureStatistics | None = None,
) -> Tensor:
    """Initial memory blocks.

    Args:
        name: one of :data:`INITIALISERS`.
        count: number of blocks, K.
        length: length of a block, D.
        features: float [B, C, H, W], the first batch; sigma and rho are measured on it.
        generator: generator of the random numbers (CPU).
        published: statistics to use instead of measured ones.

    Returns:
        float [K, D] on the CPU.

    Raises:
        InputError: the name is unknown, or the initialiser cannot make this number of blocks.
    """
    check_initialiser(name, count, length)
    statistics = published or FeatureStatistics.measure(features)
    blocks = INITIALISERS[name](Request(count, length, generator, features, statistics))
    assert blocks.shape == (count, length)
    if not math.isfinite(blocks.sum().item()):
        raise InputError(
            setting("initialiser"),
            "gives values that are not finite",
            "check the weights and the images",
        )
    return blocks
