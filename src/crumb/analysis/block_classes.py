"""Mutual information of memory blocks and classes, per slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crumb.analysis.usage import BlockCounts, shares
from crumb.reports.intervals import in_words, over_runs
from crumb.reports.panels import COLOURS, Panel, blank

_SHOWN = 24


def mutual_information(table: np.ndarray) -> float:
    """Bits that the block of an index says about the class of its image.

    Of independent ones it is 0; the entropy of the classes is the most it can be. Counts of few
    images give too much: some (blocks - 1) (classes - 1) / (2 ln 2 n) bits for n independent
    indices.

    Args:
        table: counts [blocks, classes].
    """
    together = table / table.sum()
    apart = together.sum(1, keepdims=True) * together.sum(0, keepdims=True)
    some = together > 0
    return float((together[some] * np.log2(together[some] / apart[some])).sum())


def cramers_v(table: np.ndarray) -> float:
    """Cramer's V of blocks and classes, from 0 (independent) to 1 (one decides the other).

    Cramer, "Mathematical Methods of Statistics", 1946. Blocks and classes that never occur are
    left out; with one block or one class left it is 0.

    Args:
        table: counts [blocks, classes].
    """
    used = table[table.sum(1) > 0][:, table.sum(0) > 0]
    least = min(used.shape) - 1
    if least < 1:
        return 0.0
    expected = used.sum(1, keepdims=True) * used.sum(0, keepdims=True) / used.sum()
    chi_squared = ((used - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi_squared / (used.sum() * least)))


def correlation_figures(used: BlockCounts) -> dict[str, float]:
    """Key numbers of a run, by what they are: the mean over the slices."""
    return {
        "block and class: information, bits an index": float(
            np.mean([mutual_information(table) for table in used.counts])
        ),
        "block and class: Cramér's V": float(np.mean([cramers_v(table) for table in used.counts])),
    }


def lifts(used: BlockCounts) -> np.ndarray:
    """log2 of how much more often a class uses a block than all do, [blocks, classes].

    -inf where a class never uses a block, NaN for blocks that are never used.
    """
    counts = used.counts.sum(0)
    of_class = counts / counts.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log2(of_class / used.frequency[:, None])


def telling_blocks(used: BlockCounts) -> np.ndarray:
    """Numbers of the blocks, those first that say most about the class.

    Each by its part of the mutual information: its frequency times the divergence of the classes
    of its indices from those of all.
    """
    together = shares(used.counts.sum(0))
    apart = together.sum(1, keepdims=True) * together.sum(0, keepdims=True)
    some = together > 0
    parts = np.zeros(together.shape)
    parts[some] = together[some] * np.log2(together[some] / apart[some])
    return np.argsort(-parts.sum(1), kind="stable")


def lift_panel(used: BlockCounts, run: int) -> Panel:
    """The most informative blocks about the class, and the classes that use them."""
    table, chosen = lifts(used), telling_blocks(used)[:_SHOWN]
    frequency = used.counts.sum(0) / used.counts.sum((0, 1))
    rows = [
        [int(block), name, 100 * frequency[block, label], _finite(table[block, label])]
        for block in chosen
        for label, name in enumerate(used.classes)
    ]
    figure = blank(2.4 + 0.27 * len(chosen), 1.9 + 0.3 * len(used.classes))
    axes = figure.subplots()
    image = axes.imshow(table[chosen].T.clip(-3, 3), cmap="RdBu_r", vmin=-3, vmax=3, aspect="auto")
    label = "use by the class / by all, log2"
    figure.colorbar(image, ax=axes, label=label, ticks=[-3, -2, -1, 0, 1, 2, 3])
    axes.set_xticks(range(len(chosen)), [str(block) for block in chosen], rotation=90, fontsize=8)
    axes.set_yticks(range(len(used.classes)), used.classes)
    axes.set(xlabel="memory block, by number", ylabel="class")
    caption = (
        f"The {len(chosen)} memory blocks that say most about the class of a test image (run {run},"
        " all slices): how many times as often the images of a class use a block as all images do,"
        " as a logarithm to base 2 (1 is twice as often, -1 half as often; cut at 3)."
    )
    header = ["block", "class", "share of the class's indices, %", "log2 of the ratio to all"]
    return Panel("block_classes", "Blocks and classes", caption, figure, header, rows)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def information_panel(runs: Sequence[BlockCounts]) -> Panel:
    """Bits that a block says about the class, for each slice of the channels."""
    bits = [[mutual_information(table) for table in used.counts] for used in runs]
    strengths = np.mean([[cramers_v(table) for table in used.counts] for used in runs], axis=0)
    values = [over_runs(column) for column in np.array(bits).T.tolist()]
    rows = [
        [number + 1, *value.span(), strength]
        for number, (value, strength) in enumerate(zip(values, strengths, strict=True))
    ]
    figure = blank(6.4, 3.4)
    axes = figure.subplots()
    bars = np.array([value.bar() for value in values]).T
    means = [value.mean for value in values]
    axes.bar(range(1, len(values) + 1), means, yerr=bars, color=COLOURS[0], ecolor="#777777")
    axes.set(xlabel="slice of the channels, by number", ylabel="information on the class, bits")
    axes.grid(axis="y", alpha=0.3)
    caption = (
        "How many bits the block of an index says about the class of its test image (mutual "
        "information), for each slice of the channels. "
        f"{in_words(len(runs))} The table has Cramér's V as well (0: independent, 1: one decides "
        "the other; mean of the runs)."
    )
    header = ["slice", "information, bits", "low", "high", "Cramér's V"]
    title = "Information of a block about the class"
    return Panel("block_information", title, caption, figure, header, rows)


def count_table(used: BlockCounts) -> tuple[list[str], list[list[int]]]:
    """Header and rows of all counts: slice (from 1), block, images' indices of each class."""
    slices, blocks, _ = used.counts.shape
    rows = [
        [number + 1, block, *used.counts[number, block].tolist()]
        for number in range(slices)
        for block in range(blocks)
    ]
    return ["slice", "block", *used.classes], rows
