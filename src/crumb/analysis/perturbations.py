"""Accuracy on perturbed feature maps: what a learner looks at, shape or texture.

The five perturbations of the published program act on the feature map at the cut, each on every
image by itself. To permute positions destroys shape; to set channels to zero, or to look at
stylised pictures, destroys texture. See Talbot et al., TNNLS 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from crumb.methods.base import Learner
from crumb.nets.split import SplitNetwork
from crumb.nets.tokens import check_grid, on_grid
from crumb.progress import bar
from crumb.seeds import generator
from crumb.stream.feed import Reading

Perturbation = Literal[
    "spatial", "rows_and_columns", "feature_zero", "feature_permutation", "feature_swap"
]
PERTURBATIONS: tuple[Perturbation, ...] = get_args(Perturbation)
MEANING = {
    "spatial": "positions permuted",
    "rows_and_columns": "rows, then columns permuted",
    "feature_zero": "half of the channels zero",
    "feature_permutation": "channels permuted",
    "feature_swap": "half of the channels overwritten",
    "style": "stylised pictures",
}
NONE = "none"


def perturb(maps: Tensor, kind: Perturbation, source: torch.Generator) -> Tensor:
    """Perturb each map by itself.

    Args:
        maps: float [B, C, H, W].
        kind: spatial permutes the positions, the same for all channels; rows_and_columns permutes
            the rows and then the columns; feature_zero sets a random half of the channels to zero;
            feature_permutation permutes the channels; feature_swap overwrites a random half of the
            channels with the others. Of an odd number of channels half is rounded as by round().
        source: source of the choices (CPU).

    Returns:
        float [B, C, H, W]; the maps given are left alone.
    """
    count, channels, height, width = maps.shape
    if kind == "spatial":
        order = _orders(count, height * width, source).to(maps.device)
        places = order[:, None, :].expand(-1, channels, -1)
        return maps.flatten(2).gather(2, places).view(maps.shape)
    if kind == "rows_and_columns":
        # Drawn image by image, so that the size of batches decides nothing.
        chances = torch.rand(count, height + width, generator=source, dtype=torch.float64)
        rows, columns = (
            part.argsort(1).to(maps.device) for part in chances.split((height, width), 1)
        )
        rows, columns = rows[:, None, :, None], columns[:, None, None, :]
        return maps.gather(2, rows.expand(maps.shape)).gather(3, columns.expand(maps.shape))
    order = _orders(count, channels, source).to(maps.device)
    images = torch.arange(count, device=maps.device)[:, None]
    if kind == "feature_permutation":
        return maps[images, order]
    half, changed = round(channels / 2), maps.clone()
    if kind == "feature_zero":
        changed[images, order[:, :half]] = 0.0
    else:
        half = channels // 2
        changed[images, order[:, :half]] = maps[images, order[:, half : 2 * half]]
    return changed


def _orders(count: int, length: int, source: torch.Generator) -> Tensor:
    """A random permutation for each image, int64 [count, length]."""
    return torch.rand(count, length, generator=source, dtype=torch.float64).argsort(1)


def perturbed_accuracy(
    learner: Learner, test: Reading, kinds: Sequence[Perturbation] = PERTURBATIONS
) -> dict[str, float]:
    """Accuracy in percent on the maps as they are (``none``) and under each perturbation.

    Direct path, top-1. What happens to an image depends on the learner's seed and on nothing else,
    so that learners of the same run, shape of maps and images are tested on the same maps.

    Args:
        learner: to be tested; nothing about it changes.
        test: the images.
        kinds: kinds of perturbation.
    """
    sources = {kind: generator(learner.seed, f"perturbation {kind}") for kind in kinds}
    right: dict[str, int] = dict.fromkeys((NONE, *kinds), 0)
    with learner.evaluation():
        for batch in bar(test, "perturbed", "batch"):
            for kind in (None, *kinds):
                maps = batch.features
                if kind is not None:
                    maps = _perturbed(learner.network, maps, kind, sources[kind])
                best = learner.scores(maps).argmax(1).cpu()
                right[kind or NONE] += int((best == batch.labels).sum())
    return {kind: 100 * hits / len(test.frames.paths) for kind, hits in right.items()}


def _perturbed(
    network: SplitNetwork, maps: Tensor, kind: Perturbation, source: torch.Generator
) -> Tensor:
    """Positions are those of the image: tokens that stand for all of it keep theirs."""
    if kind not in ("spatial", "rows_and_columns"):
        return perturb(maps, kind, source)
    check_grid(network, f"the perturbation {kind}")
    return on_grid(network, maps, partial(perturb, kind=kind, source=source))


def relative_drop(unperturbed: float, perturbed: float) -> float | None:
    """Share of the accuracy that is lost, (u - p) / u; None where there is none to lose."""
    return (unperturbed - perturbed) / unperturbed if unperturbed else None


def drops(accuracies: Mapping[int, Mapping[str, float]]) -> dict[str, dict[int, float]]:
    """Relative drop under each perturbation in each run in which there is something to lose.

    Args:
        accuracies: accuracies by run, then perturbation (``none`` among them).
    """
    found: dict[str, dict[int, float]] = {}
    for run, of_run in accuracies.items():
        for kind, accuracy in of_run.items():
            lost = relative_drop(of_run[NONE], accuracy)
            if kind != NONE and lost is not None:
                found.setdefault(kind, {})[run] = lost
    return found


def advantages(
    own: Mapping[int, Mapping[str, float]], other: Mapping[int, Mapping[str, float]]
) -> dict[str, dict[int, float]]:
    """Drop of the other arm minus the own one, under each perturbation, for each run of both.

    Above 0 the own arm loses less.
    """
    ours, theirs = drops(own), drops(other)
    return {
        kind: {run: theirs[kind][run] - ours[kind][run] for run in sorted(shared)}
        for kind in ours
        if (shared := ours[kind].keys() & theirs.get(kind, {}).keys())
    }
