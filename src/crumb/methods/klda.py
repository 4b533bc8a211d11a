"""KLDA: streaming linear discriminant analysis of random Fourier features.

Momeni, Mazumder, Liu, "Continual Learning Using a Kernel-Based Method Over Foundation Models",
AAAI 2025, arXiv 2412.15571. The features are those of Rahimi and Recht, "Random Features for
Large-Scale Kernel Machines", NeurIPS 2007.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from crumb.errors import require
from crumb.methods.described import Ranges
from crumb.methods.random_features import RandomFeatures, RandomFeaturesConfig
from crumb.methods.registry import register
from crumb.methods.slda import SldaConfig, StreamingLda
from crumb.seeds import generator


@dataclass(frozen=True)
class KldaConfig(RandomFeaturesConfig, SldaConfig):
    """Settings of KLDA."""

    gamma: float = 1.0
    """Coefficient of the kernel exp(-GAMMA |x - y|^2), between features of length 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("gamma", self.gamma, 1e-6 <= self.gamma <= 1e6, "from 1e-6 to 1e6")


@register
class Klda(RandomFeatures, StreamingLda):
    """Streaming LDA in a space where inner products approximate a Gaussian kernel.

    Everything but the features is as in ``slda``. Three things differ from the paper. The features
    are scaled to length 1 before the kernel, so that one ``gamma`` suits features of any magnitude.
    The paper chooses it for each network. The covariance is shrunk as in ``slda``, where the paper
    adds a small multiple of the identity. The paper's ensemble is left out.
    """

    name = "klda"
    summary = "streaming LDA of random Fourier features"
    paper = "Momeni et al., AAAI 2025"
    keeps = "class means, one covariance, of random features"
    Config = KldaConfig
    tuned: ClassVar[Ranges] = {"shrinkage": (0.001, 1.0), "gamma": (0.1, 10.0)}

    # The update rule. (That of StreamingLda.)

    def describe(self, features: Tensor) -> Tensor:
        """Random Fourier features of feature maps, float32 [B, dimensions], in [-1, 1]."""
        frequencies, phases = self._directions[:-1], self._directions[-1]
        return (normalize(self.pooled(features)) @ frequencies + phases).cos()

    def basis(self, classifier: Tensor, count: int) -> Tensor:
        """Frequencies of the kernel, and phases in the last row, float32 [D + 1, count]."""
        draws, width = generator(self.seed, "frequencies"), self.network.penultimate_size
        frequencies = torch.randn(width, count, generator=draws) * math.sqrt(2 * self.config.gamma)
        phases = torch.rand(1, count, generator=draws) * (2 * math.pi)
        return torch.cat([frequencies, phases])
