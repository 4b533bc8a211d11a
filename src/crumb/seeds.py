"""Seeds and generators of a run: one seed, one generator per purpose."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of a run.

    Generators of different purposes are independent of each other, so drawing more replays does
    not change, for example, which dropout masks come next.
    """
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on ``device``, seeded for one purpose of a run."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, purpose))
