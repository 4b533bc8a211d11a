"""Usage of memory blocks: overall, per class, before and after tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from crumb.reports.intervals import OverRuns, in_words, over_runs
from crumb.reports.panels import COLOURS, Panel, blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class BlockCounts:
    """Block usage on the test images of a run.

    Attributes:
        counts: int64 [slices, blocks, classes]; a slice is a group of channels.
        classes: names, by column.
    """

    counts: np.ndarray
    classes: Sequence[str]

    @property
    def frequency(self) -> np.ndarray:
        """Share of all indices that are of each block, [blocks]; they sum to 1."""
        return shares(self.counts.sum((0, 2)))

    def of_class(self, name: str) -> np.ndarray:
        """The same of the indices of one class's images, [blocks]."""
        return shares(self.counts.sum(0)[:, list(self.classes).index(name)])


def count_blocks(
    codes: Tensor, labels: np.ndarray, slices: int, blocks: int, classes: int
) -> np.ndarray:
    """Count the indices of some images.

    Args:
        codes: integers [B, N], ordered by row, column, slice.
        labels: (B,).
        slices: slices of each position.
        blocks: in the codebook.
        classes: known.

    Returns:
        int64 [slices, blocks, classes].
    """
    chosen = codes.cpu().numpy().astype(np.int64).reshape(len(codes), -1, slices)
    cells = (np.arange(slices) * blocks + chosen) * classes + labels[:, None, None]
    counts = np.bincount(cells.ravel(), minlength=slices * blocks * classes)
    return counts.reshape(slices, blocks, classes)


def shares(counts: np.ndarray) -> np.ndarray:
    """Counts divided by their sum."""
    return counts / counts.sum()


def entropy(frequency: np.ndarray) -> float:
    """Entropy of a distribution in bits: log2(K) if all K are equally frequent, 0 if one is all."""
    used = frequency[frequency > 0]
    return float(-(used * np.log2(used)).sum()) + 0.0


def entropy_share(frequency: np.ndarray) -> float:
    """Entropy in percent of the most there could be; 100 for a single block."""
    most = np.log2(len(frequency))
    return 100 * entropy(frequency) / most if most else 100.0


def usage_figures(used: BlockCounts) -> dict[str, float]:
    """Key numbers of a run, by what they are."""
    frequency = used.frequency
    return {
        "entropy of block usage, bits": entropy(frequency),
        "entropy of block usage, % of the maximum": entropy_share(frequency),
        "blocks never used": float((frequency == 0).sum()),
        "most frequent block, % of the indices": 100 * float(frequency.max()),
    }


def usage_panel(runs: Mapping[str, Sequence[BlockCounts]]) -> Panel:
    """Frequencies of the blocks, in descending order, the mean of the runs at each rank.

    Args:
        runs: runs of each state of the codebook (as it is; before tuning), by what it is called.
    """
    figure = blank(6.4, 3.8)
    axes = figure.subplots()
    columns = {}
    for number, (name, all_runs) in enumerate(runs.items()):
        ranked = 100 * np.sort([used.frequency for used in all_runs], axis=1)[:, ::-1]
        columns[name] = [over_runs(at_rank) for at_rank in ranked.T.tolist()]
        _draw_ranks(axes, columns[name], name, number)
    blocks, count = len(next(iter(columns.values()))), len(next(iter(runs.values())))
    rows = [
        [rank + 1] + [value for of in columns.values() for value in of[rank].span()]
        for rank in range(blocks)
    ]
    equal = f"all equally often: {100 / blocks:.2g} %"
    axes.axhline(100 / blocks, color="#777777", lw=0.8, ls=":", label=equal)
    axes.set(xlabel="memory block, by rank", ylabel="share of all indices, %", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    header = ["rank"]
    header += [f"{name}, {what}" for name in columns for what in ("%", "low", "high")]
    caption = (
        f"Of all indices of all test images, the share that is of each of the {blocks} memory "
        f"blocks, most frequent first. {in_words(count).replace('bars', 'bands')} Blocks that are "
        "never chosen have no place on the logarithmic axis."
    )
    return Panel("block_usage", "Use of the memory blocks", caption, figure, header, rows)


def _draw_ranks(axes: Axes, values: Sequence[OverRuns], name: str, number: int) -> None:
    means = np.array([value.mean for value in values])
    spans = np.array([[value.low, value.high] for value in values], float).T
    ranks = np.flatnonzero(means > 0)
    colour, line = COLOURS[number], ("-", "--")[number % 2]
    axes.plot(ranks + 1, means[ranks], line, color=colour, label=name)
    if values[0].low is not None:
        # Zero has no place on a logarithmic axis.
        low, high = spans[:, ranks].clip(means[ranks].min() / 10)
        axes.fill_between(ranks + 1, low, high, color=colour, alpha=0.2, lw=0)


def class_usage_panel(runs: Mapping[str, Sequence[BlockCounts]]) -> Panel:
    """Entropy of the blocks of each class, and how many it never uses; likewise."""
    names = sorted(next(iter(runs.values()))[0].classes)
    figure = blank(7.6, 1.3 + 0.3 * len(names) * len(runs))
    left, right = figure.subplots(1, 2, sharey=True)
    rows: list[list[object]] = []
    for number, (state, all_runs) in enumerate(runs.items()):
        places = np.arange(len(names)) + (number - (len(runs) - 1) / 2) * 0.8 / len(runs)
        style = {"height": 0.72 / len(runs), "color": COLOURS[number], "ecolor": "#777777"}
        found = []
        for name in names:
            of_class = [used.of_class(name) for used in all_runs]
            bits = over_runs([entropy(frequency) for frequency in of_class])
            unused = over_runs([float((frequency == 0).sum()) for frequency in of_class])
            found.append((bits, unused))
            share = np.mean([entropy_share(frequency) for frequency in of_class])
            rows.append([name, state, *bits.span(), share, *unused.span()])
        for axes, column in ((left, 0), (right, 1)):
            values = [pair[column] for pair in found]
            bars = np.array([value.bar() for value in values]).T
            axes.barh(places, [value.mean for value in values], xerr=bars, label=state, **style)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set(xlabel="entropy of block usage, bits", ylabel="class")
    right.set(xlabel="blocks never used, of the codebook", xlim=(0, max(1.0, right.get_xlim()[1])))
    if len(runs) > 1:
        figure.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside upper right")
    caption = (
        "For the test images of each class: the entropy of the distribution of their indices over "
        "the memory blocks (bits; more is more even), and how many blocks they never use. "
        f"{in_words(len(next(iter(runs.values()))))}"
    )
    header = ["class", "codebook", "entropy, bits", "low", "high", "% of the maximum"]
    header += ["blocks never used", "low", "high"]
    title = "Use of the memory blocks by class"
    return Panel("block_usage_by_class", title, caption, figure, header, rows)
