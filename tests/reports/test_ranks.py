"""Ranks over data sets, against ranks and p-values worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results_folders import write

from crumb.reports.page import draw
from crumb.reports.ranks import Ranking, rank_panels, rankings
from crumb.reports.reader import gather

BUDGET = 2000
# Final accuracies of each method by data set.
FINALS = {"crumb": (80, 70), "er": (60, 75), "agem": (50, 50), "finetune": (60, 10)}


def made(folder: Path, datasets: int = 2) -> Path:
    for number in range(datasets):
        for method, finals in FINALS.items():
            own: dict[str, Any] = {} if method == "finetune" else {"method_budget_bytes": BUDGET}
            write(
                folder / f"set{number}" / method,
                {0: float(finals[number])},
                method,
                replay=1000 if own else 0,
                stream_dataset=f"/data/set{number}",
                files_index=f"{number}" * 64,
                **own,
            )
    return folder


def test_ranks_worked_by_hand(tmp_path: Path):
    """On the first data set er and finetune share the places 2 and 3."""
    (one,) = rankings(gather([made(tmp_path)]))
    assert one.datasets == ["set0", "set1"]
    assert one.methods == ["crumb", "er", "finetune", "agem"]
    assert one.ranks.tolist() == [[1, 2], [2.5, 1], [2.5, 4], [4, 3]]


def test_with_two_data_sets_only_ranks_are_shown(tmp_path: Path):
    report = gather([made(tmp_path)])
    (panel,) = rank_panels(report)
    assert panel.title.endswith(
        "2,000 bytes, paper mode (10 and 1 epochs), class_instance, efficientnet_lite0"
    )
    assert "with 2 data sets no p-value can be below 1" in panel.caption
    assert panel.rows[0] == ["crumb", 1.5, 1.0, 2.0, ""]
    html = draw(report).html
    assert html.count('<h2 id="Ranks_over_data_sets">') == 1
    assert html.count("Only ranks are shown") >= 1


def test_one_data_set_has_no_ranking(tmp_path: Path):
    report = gather([made(tmp_path, datasets=1)])
    assert rank_panels(report) == []
    assert "Ranks over data sets" not in draw(report).html


def test_who_is_not_ranked(tmp_path: Path):
    """Bounds, what is over budget, what a data set lacks, several results of one method."""
    folder = made(tmp_path)
    for number in range(2):
        at: dict[str, Any] = {
            "stream_dataset": f"/data/set{number}",
            "files_index": f"{number}" * 64,
        }
        write(folder / f"set{number}/offline", {0: 99.0}, "offline", replay=0, **at)
        own: dict[str, Any] = {"method_budget_bytes": BUDGET}
        write(folder / f"set{number}/icarl", {0: 98.0}, "icarl", replay=9000, **own, **at)
        write(folder / f"set{number}/agem2", {0: 97.0}, "agem", **own, **at)
        if number:
            write(folder / f"set{number}/gem", {0: 96.0}, "gem", **own, **at)
    (one,) = rankings(gather([folder]))
    assert sorted(one.methods) == ["crumb", "er", "finetune"]


def test_a_data_set_with_two_streams_counts_once(tmp_path: Path):
    """The mean of 80 and 40 is level with er, whose two streams end at 60."""
    folder = made(tmp_path)
    for method, final in (("crumb", 40.0), ("er", 60.0), ("agem", 50.0)):
        write(
            folder / "other" / method,
            {0: final},
            method,
            stream_dataset="/data/set0",
            files_index="0" * 64,
            stream_batch_size=21,
            stream_filelists="/lists",
            method_budget_bytes=BUDGET,
        )
    (one,) = rankings(gather([folder]))
    assert one.datasets == ["set0", "set1"]
    means = dict(zip(one.methods, one.accuracies.tolist(), strict=True))
    assert means == {"crumb": [60, 70], "er": [60, 75], "agem": [50, 50]}


def test_backbones_are_ranked_apart(tmp_path: Path):
    """Each data set has two methods with another backbone, at which er wins."""
    folder = made(tmp_path)
    for number in range(2):
        for method, final in (("crumb", 1.0), ("er", 2.0)):
            write(
                folder / f"wide{number}" / method,
                {0: final},
                method,
                stream_dataset=f"/data/set{number}",
                files_index=f"{number}" * 64,
                network_backbone="resnet18",
                method_budget_bytes=BUDGET,
            )
    own, other = rankings(gather([folder]))
    assert own.methods == ["crumb", "er", "finetune", "agem"]
    assert other.methods == ["er", "crumb"]
    assert other.accuracies.tolist() == [[2, 2], [1, 1]]
    assert other.title.endswith("class_instance, resnet18")


def ranking(*accuracies: list[float]) -> Ranking:
    names = [f"m{number}" for number in range(len(accuracies))]
    sets = [f"set{number}" for number in range(len(accuracies[0]))]
    return Ranking("", names, sets, np.array(accuracies))


def test_bars_join_what_no_test_tells_apart():
    """Ten data sets: m0 always wins by another margin, m1 and m2 win five each."""
    base = [50.0 + number for number in range(10)]
    swing = [value + (1 if number % 2 else -1) * (number + 1) for number, value in enumerate(base)]
    one = ranking([value + 20 + value / 10 for value in base], base, swing)
    # 2 / 2^10, the smallest p-value, for two of three pairs: times 3, and again.
    assert one.p_values[0, 1] == pytest.approx(3 * 2 / 2**10)
    assert one.p_values[0, 2] == pytest.approx(3 * 2 / 2**10)
    assert one.p_values[1, 2] > 0.05
    assert one.groups == [(1, 2)]
    assert one.can_tell


def test_when_no_test_can_tell():
    """Three pairs need 3 * 2 / 2^n below 0.05: seven data sets."""
    assert [ranking(*[[0.0] * n] * 3).can_tell for n in (6, 7)] == [False, True]
