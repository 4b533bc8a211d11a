"""Dropout with masks from an explicit generator, which replaces a network's own dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from crumb.errors import InputError, setting

# Dropout probabilities are multiples of one divided by this number.
_STEPS = 1 << 16


class SeededDropout(nn.Module):
    """Dropout with masks from an explicit generator instead of the global one.

    Args:
        probability: probability that a value becomes zero.
        whole: all values of a sample are kept or dropped together (stochastic depth).
        rescale: whether to divide the kept values by the share of kept values.
    """

    def __init__(self, probability: float, whole: bool = False, rescale: bool = True) -> None:
        super().__init__()
        self.probability = probability
        self.whole = whole
        self.rescale = rescale
        self.generator: torch.Generator | None = None

    @property
    def p(self) -> float:
        """The probability under torch's name, which attention layers read."""
        return self.probability

    def forward(self, values: Tensor) -> Tensor:
        """Zero values at random and rescale the others; the identity in eval mode."""
        if not self.training or self.probability == 0:
            return values
        like = values.new_empty(len(values), *[1] * (values.ndim - 1)) if self.whole else values
        share = mask_share(1 - self.probability)
        mask = _mask(share, like, self.generator).to(values.dtype)
        return values * (mask.div_(share) if self.rescale else mask)


def mask_share(keep: float) -> float:
    """The share of values that are actually kept: ``keep`` rounded to a multiple of 1/65,536."""
    return max(1, round(keep * _STEPS)) / _STEPS


def _mask(share: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """True with probability ``share``, bool of the shape and memory format of ``like``.

    Each random 64-bit integer gives four values. ``bernoulli_`` draws them one at a time, which
    takes a third of a training step of SqueezeNet's tail on a CPU.
    """
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    words.random_(-(1 << 63), None, generator=generator)
    last = round(share * _STEPS) - _STEPS // 2 - 1
    kept = words.view(torch.int16) <= last
    return kept.as_strided(like.shape, torch.empty_like(like, device="meta").stride())


@contextmanager
def same_draws(tail: nn.Module) -> Iterator[None]:
    """A context that leaves the generators of a tail's dropout masks unchanged."""
    generators = {m.generator for m in tail.modules() if isinstance(m, SeededDropout)}
    states = [(one, one.get_state()) for one in generators if one is not None]
    try:
        yield
    finally:
        for generator, before in states:
            generator.set_state(before)


def replace_dropout(tail: nn.Module, probability: float | None) -> None:
    """Replace every dropout and stochastic depth by :class:`SeededDropout`.

    Args:
        tail: changed in place.
        probability: probability of every dropout layer. With None, each layer keeps its own.
            Stochastic depth always keeps its own.

    Raises:
        InputError: a probability above zero is given, and the tail has no dropout layer.
    """
    from timm.layers.drop import DropPath
    from torchvision.ops import StochasticDepth

    found = False
    for parent in list(tail.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout):
                found = True
                setattr(
                    parent, name, SeededDropout(child.p if probability is None else probability)
                )
            elif isinstance(child, StochasticDepth):
                setattr(parent, name, SeededDropout(child.p, whole=True))
            elif isinstance(child, DropPath):
                setattr(parent, name, SeededDropout(child.drop_prob, True, child.scale_by_keep))
    for module in tail.modules():
        masks = [m for m in module.children() if isinstance(m, SeededDropout) and not m.whole]
        # The fused operation would draw its masks from the global generator.
        if getattr(module, "fused_attn", False) and any(mask.probability for mask in masks):
            vars(module)["fused_attn"] = False
    if probability and not found:
        raise InputError(
            setting("dropout", probability),
            "this network's tail has no dropout layer",
            "leave it out",
        )
