"""Two-dimensional projections of feature maps and reconstructions: PCA or t-SNE."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np

from crumb.errors import InputError
from crumb.reports.panels import COLOURS, Panel, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Embedding = Literal["pca", "tsne"]
_COMPONENTS = 50
_FEWEST = 4


def check_embedding(kind: Embedding) -> None:
    """Check requirements early.

    Raises:
        InputError: t-SNE without scikit-learn.
    """
    if kind == "tsne" and find_spec("sklearn") is None:
        remedy = "pip install 'crumb-learn[analysis]', or take pca"
        raise InputError("--embedding tsne", "needs scikit-learn, which is not installed", remedy)


def principal_components(
    points: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions in which points vary most.

    The sign of each is such that its largest entry is positive.

    Args:
        points: [n, d].
        count: count of directions; fewer come back where there are fewer.

    Returns:
        the mean [d], the directions [count, d], and the share of the variance of each [count].
    """
    mean = points.mean(0)
    _, lengths, directions = np.linalg.svd(points - mean, full_matrices=False)
    directions = directions[:count]
    largest = np.abs(directions).argmax(1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    variance = lengths**2
    return mean, directions * signs[:, None], (variance / (variance.sum() or 1.0))[:count]


def tsne(points: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE of points [n, d], on a plane [n, 2], after a reduction to 50 principal components.

    Van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008. Perplexity 30, or a
    quarter of the points where these are few.
    """
    from sklearn.manifold import TSNE

    mean, directions, _ = principal_components(points, _COMPONENTS)
    reduced = ((points - mean) @ directions.T).astype(np.float32)
    perplexity = min(30.0, len(points) / 4)
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return np.asarray(found)


def embedding_panel(
    maps: np.ndarray,
    rebuilt: np.ndarray,
    labels: Sequence[int],
    classes: Sequence[str],
    kind: Embedding,
) -> Panel | None:
    """Test images on a plane, each with its reconstruction.

    Args:
        maps: [n, d], flattened feature maps.
        rebuilt: [n, d], their reconstructions.
        labels: labels of the images.
        classes: names.
        kind: pca projects both on the two main components of the maps; tsne places both together,
            with seed 0.

    Returns:
        the panel; None for fewer than four images.
    """
    count = len(maps)
    if count < _FEWEST:
        return None
    both, names, how = _placed(maps, rebuilt, kind)
    figure = _drawn(both, names, labels, classes)
    caption = (
        f"Feature maps of {count} test images (filled) and their reconstructions from memory "
        f"blocks (open, joined by a line), {how}. Colours and shapes: classes."
    )
    rows = [
        [number, classes[label], what, *map(float, point)]
        for what, points in zip(("feature map", "reconstruction"), both, strict=True)
        for number, (label, point) in enumerate(zip(labels, points, strict=True))
    ]
    header = ["image", "class", "what", *names]
    title = "Feature maps and their reconstructions"
    return Panel(f"embedding_{kind}", title, caption, figure, header, rows)


def _placed(
    maps: np.ndarray, rebuilt: np.ndarray, kind: Embedding
) -> tuple[list[np.ndarray], list[str], str]:
    """Both on a plane, each [n, 2]; names of the axes; how they were placed."""
    if kind == "pca":
        mean, directions, variance = principal_components(maps, 2)
        both = [(points - mean) @ directions.T for points in (maps, rebuilt)]
        names = [
            f"principal component {i + 1} ({100 * v:.0f} % of the variance), activation"
            for i, v in enumerate(variance)
        ]
        how = "projected on the two main principal components of the feature maps (activation)"
    else:
        both = np.split(tsne(np.concatenate([maps, rebuilt]), 0), 2)
        names = ["t-SNE 1, no unit", "t-SNE 2, no unit"]
        how = "placed by t-SNE of both together (seed 0), in which only neighbourhood has a meaning"
    return both, names, how


def _drawn(
    both: Sequence[np.ndarray],
    names: Sequence[str],
    labels: Sequence[int],
    classes: Sequence[str],
) -> Figure:
    figure = blank(7.6, 5.0)
    axes = figure.subplots()
    handles = {}
    for label in sorted(set(labels)):
        own = np.flatnonzero(np.asarray(labels) == label)
        colour = COLOURS[label % len(COLOURS)]
        marker = "os^DvP*X"[label // len(COLOURS) % 8]
        (x, y), (u, v) = both[0][own].T, both[1][own].T
        axes.plot([x, u], [y, v], color=colour, lw=0.4, alpha=0.35)
        points = axes.scatter(x, y, 16, color=colour, marker=marker, lw=0)
        handles[classes[label]] = points
        axes.scatter(u, v, 16, facecolors="none", edgecolors=colour, marker=marker, lw=0.8)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.grid(alpha=0.3)
    if len(classes) <= 24:
        # Named here, as a label of points that begins with _ is left out.
        key = (list(handles.values()), list(handles))
        figure.legend(*key, frameon=False, loc="outside right upper", fontsize=8)
    return figure
