"""Statistics of the codebook, the features and their reconstructions (``mem_stats.csv``)."""

from __future__ import annotations

import torch
from torch import Tensor

from crumb.codebook.codebook import Codebook


@torch.no_grad()
def reconstruction_statistics(codebook: Codebook, features: Tensor) -> dict[str, float]:
    """Mean, standard deviation, extremes and sparsity of blocks, features and reconstructions.

    Args:
        codebook: codebook whose present blocks are used.
        features: float [B, C, H, W].

    Returns:
        the published columns, in order. Sparsity is the share of exact zeros, and ``reconstr_mse``
        is the mean squared error over all activations.
    """
    rebuilt = codebook(features)
    figures: dict[str, float] = {}
    for name, values in (
        ("codebook", codebook.blocks),
        ("orig_fbanks", features),
        ("reconstr_fbanks", rebuilt),
    ):
        figures[f"{name}_mean"] = round(values.mean().item(), 5)
        figures[f"{name}_std"] = round(values.std().item(), 5)
        figures[f"{name}_max"] = round(values.max().item(), 5)
        figures[f"{name}_min"] = round(values.min().item(), 5)
        figures[f"{name}_sparsity"] = round((values == 0).float().mean().item(), 2)
    figures["reconstr_mse"] = round((features - rebuilt).square().mean().item(), 5)
    return figures
