"""Ranks of methods over data sets, and the critical-difference diagram of them.

Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006. The unit is the
data set: a rank is by mean final accuracy. Pairs of methods are tested with Wilcoxon's signed-rank
test over the data sets and Holm's correction. Benavoli, Corani and Mangili recommend it instead of
Nemenyi's test ("Should We Really Use Post-Hoc Tests Based on Mean-Ranks?", JMLR 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crumb.reports.drawing import OTHERS, OWN, PALETTE, shortened
from crumb.reports.families import OWN_METHOD, Result, in_bytes, is_over
from crumb.reports.panels import Panel, blank
from crumb.reports.reader import EPOCHS, Experiment, Report
from crumb.reports.statistics import holm, smallest_p, wilcoxon
from crumb.reports.wording import LEVEL, count, dataset_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BACKBONE = "network.backbone"
_CONDITION = ("stream.protocol", *EPOCHS)
_SIZE, _ROW, _BAR = 8, 0.42, 0.22
"""Size of the names in points, and distances of names and of bars on the vertical axis."""
_ROOM = 0.4
"""Room for names on each side, as a share of the axis of ranks."""


@dataclass(frozen=True)
class Ranking:
    """Methods that several data sets have in common, with one mode, budget and backbone.

    Attributes:
        title: budget, mode, protocol and backbone, in words.
        methods: names of the methods, best mean rank first.
        datasets: names of the data sets.
        accuracies: mean final accuracy in percent, float [methods, data sets].
    """

    title: str
    methods: Sequence[str]
    datasets: Sequence[str]
    accuracies: NDArray[np.float64]

    @cached_property
    def ranks(self) -> NDArray[np.float64]:
        """Rank on each data set, float [methods, data sets]; 1 is best, ties share the mean."""
        return _ranks(self.accuracies)

    @property
    def can_tell(self) -> bool:
        """Whether any difference could be significant with this many data sets."""
        pairs = len(self.methods) * (len(self.methods) - 1) // 2
        return pairs * smallest_p(len(self.datasets)) <= LEVEL

    @cached_property
    def p_values(self) -> Mapping[tuple[int, int], float]:
        """p-value of each pair of methods after Holm's correction, by their positions."""
        pairs = [*combinations(range(len(self.methods)), 2)]
        plain = {
            str(n): wilcoxon(*self.accuracies[[*pair]].tolist()) for n, pair in enumerate(pairs)
        }
        return dict(zip(pairs, holm(plain).values(), strict=True))

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last position of the largest groups without a significant difference."""
        found: list[tuple[int, int]] = []
        for first in range(len(self.methods)):
            last = first
            while last + 1 < len(self.methods) and all(
                self.p_values[one, last + 1] > LEVEL for one in range(first, last + 1)
            ):
                last += 1
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def rank_panels(report: Report) -> list[Panel]:
    """A critical-difference diagram for each budget, mode and backbone with several data sets."""
    found = rankings(report)
    names = ["ranks"] if len(found) == 1 else [f"ranks_{n}" for n in range(1, 1 + len(found))]
    return [_panel(one, name) for one, name in zip(found, names, strict=True)]


def rankings(report: Report) -> list[Ranking]:
    """The rankings of a report; empty for a single data set.

    It leaves out upper bounds, methods over the budget, methods without a result on some data set,
    and methods with several results on one stream. A data set with several streams counts once,
    with their mean.
    """
    conditions: dict[tuple[object, ...], list[tuple[str, dict[str, float]]]] = {}
    names = _dataset_names(report)
    for experiment in report.experiments:
        settings = experiment.results[0].settings
        for (budget, backbone), results in _groups(experiment):
            key = (budget, backbone, *map(settings.get, _CONDITION))
            methods = [one.method for one in results]
            values = {
                one.method: one.figures.final.mean
                for one in results
                if methods.count(one.method) == 1
            }
            conditions.setdefault(key, []).append((names[settings["files.index"]], values))
    drawn = [_ranking(key, streams) for key, streams in conditions.items()]
    return [one for one in drawn if one is not None]


def _groups(experiment: Experiment) -> Iterator[tuple[tuple[int | None, object], list[Result]]]:
    """The ranked results of each budget and backbone; budget None: results without one."""
    budgets = sorted({one.budget for one in experiment.results if one.budget is not None})
    backbones = dict.fromkeys(one.settings.get(_BACKBONE) for one in experiment.results)
    for budget, backbone in product(budgets or [None], backbones):
        yield (
            (budget, backbone),
            [
                one
                for one in experiment.results
                if one.settings.get(_BACKBONE) == backbone
                and not one.is_bound
                and not is_over(one, budget)
                and (one.budget == budget or not one.figures.replay_bytes)
            ],
        )


def _dataset_names(report: Report) -> dict[str, str]:
    """A distinct name for each data set, by the digest of its index."""
    found: dict[str, str] = {}
    for experiment in report.experiments:
        settings = experiment.results[0].settings
        name = dataset_name(settings)
        if settings["files.index"] not in found:
            same = sum(one.partition(" (")[0] == name for one in found.values())
            found[settings["files.index"]] = f"{name} ({same + 1})" if same else name
    return found


def _ranking(
    key: tuple[object, ...], streams: Sequence[tuple[str, Mapping[str, float]]]
) -> Ranking | None:
    datasets = [*dict.fromkeys(name for name, _ in streams)]
    shared = sorted(set.intersection(*({*values} for _, values in streams)))
    if len(datasets) < 2 or len(shared) < 2:
        return None
    accuracies = np.array(
        [
            [np.mean([values[m] for name, values in streams if name == one]) for one in datasets]
            for m in shared
        ],
        dtype=np.float64,
    )
    order = np.argsort(_ranks(accuracies).mean(1), kind="stable")
    budget, backbone, protocol, mode, first, later, rate = key
    said = [] if budget is None else [in_bytes(int(str(budget)))]
    said.append(f"{mode} mode" + (f" ({first} and {later} epochs)" if mode == "paper" else ""))
    if rate is not None:
        said.append(f"{rate:g} frames per second")
    title = ", ".join([*said, str(protocol), str(backbone)])
    return Ranking(title, [shared[place] for place in order], datasets, accuracies[order])


def _ranks(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    return rankdata(-accuracies, axis=0)


def _panel(ranking: Ranking, name: str) -> Panel:
    means = ranking.ranks.mean(1).tolist()
    groups = ranking.groups if ranking.can_tell else []
    depth = _BAR * (len(groups) + 1.5)
    lowest = depth + _ROW * -(-len(means) // 2)
    figure = blank(8.6, 1.2 + 0.5 * lowest)
    axes = figure.subplots()
    _rank_axis(axes, len(means), lowest)
    _draw_names(axes, ranking.methods, means, depth)
    for level, (first, last) in enumerate(groups, 1):
        axes.plot([means[first], means[last]], [-_BAR * level] * 2, color=OTHERS, lw=3)
    head = ["method", "mean_rank", *(f"rank_{one}" for one in ranking.datasets), "groups"]
    rows = [
        [method, mean, *ranking.ranks[place].tolist(), _memberships(place, groups)]
        for place, (method, mean) in enumerate(zip(ranking.methods, means, strict=True))
    ]
    title = f"Ranks over data sets: {ranking.title}"
    return Panel(name, title, _caption(ranking), figure, head, rows)


def _rank_axis(axes: Axes, methods: int, lowest: float) -> None:
    """An axis of ranks on top, with room for names on both sides."""
    axes.set_facecolor("none")
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    axes.spines["top"].set_bounds(1, methods)
    axes.xaxis.set_ticks_position("top")
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(1, methods + 1))
    axes.set_yticks([])
    axes.set_xlim(1 - _ROOM * methods, methods + _ROOM * methods)
    axes.set_ylim(-lowest, 0)
    axes.set_xlabel("mean rank over data sets (number of the place; 1 is the most accurate)")


def _draw_names(axes: Axes, methods: Sequence[str], means: Sequence[float], depth: float) -> None:
    """Names on the left for the better half and on the right for the others, with lines."""
    half, gap = -(-len(means) // 2), _ROOM * len(means) / 4
    for place, (method, mean) in enumerate(zip(methods, means, strict=True)):
        left = place < half
        # The outermost ranks have the highest names, so that no lines cross.
        y = -(depth + _ROW * (place if left else len(means) - 1 - place))
        end = 1 - gap if left else len(means) + gap
        colour = OWN if method == OWN_METHOD else PALETTE[-1]
        axes.plot([mean, mean, end], [0, y, y], color=colour, lw=0.9)
        axes.text(
            *(end, y, f" {shortened(method)} {mean:.1f} "),
            ha="right" if left else "left",
            va="center",
            fontsize=_SIZE,
            color=colour,
        )


def _memberships(place: int, groups: Sequence[tuple[int, int]]) -> str:
    """Numbers of the groups that a method belongs to."""
    return " ".join(str(n) for n, (a, b) in enumerate(groups, 1) if a <= place <= b)


def _caption(ranking: Ranking) -> str:
    datasets, methods = len(ranking.datasets), len(ranking.methods)
    pairs = methods * (methods - 1) // 2
    said = (
        f"Mean rank by mean final accuracy over {count(datasets, 'data set')} "
        f"({', '.join(ranking.datasets)}) of the {methods} methods that all have; left is better. "
        "Upper bounds and methods over the budget are left out. "
    )
    tests = f"Wilcoxon's signed-rank test over data sets, Holm's correction for {pairs} pairs"
    if pairs == 1:
        tests = "Wilcoxon's signed-rank test over data sets"
    if ranking.can_tell:
        return (
            f"{said}Bars join methods without a significant difference at {LEVEL} ({tests}; "
            "no interval is drawn)."
        )
    least = min(1.0, pairs * smallest_p(datasets))
    return (
        f"{said}Only ranks are shown: with {datasets} data sets no p-value can be below "
        f"{least:.3g} ({tests}), so no difference can be significant at {LEVEL}."
    )
