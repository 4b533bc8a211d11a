"""Accuracy against the rate of the stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from results_folders import record, settings

from crumb.reports.page import draw
from crumb.reports.rates import rate_panels
from crumb.reports.reader import gather
from crumb.stream.results import Results


def write(folder: Path, method: str, rate: float | None, finals: tuple[float, ...], lost: int):
    strict = {"stream_mode": "strict", "stream_epochs_first_task": 1}
    rated = {} if rate is None else {"stream_stream_rate": rate}
    results = Results(folder / f"{method}_{rate}", settings(method, **strict, **rated))
    with results:
        for run, final in enumerate(finals):
            results.add(replace(record(run, final), images_lost=lost, batch_seconds=0.1))


def test_curves_worked_by_hand(tmp_path: Path):
    """A hundred images are learned from in each run; one rate alone makes no curve."""
    for rate, final, lost in ((5.0, 80.0, 0), (50.0, 60.0, 300)):
        write(tmp_path, "slda", rate, (final, final + 2), lost)
    write(tmp_path, "er", 5.0, (70.0,), 100)
    write(tmp_path, "slda", None, (90.0,), 0)
    report = gather([tmp_path])
    (panel,) = rate_panels(report)
    assert [[*row] for row in panel.rows] == [
        ["slda", 5.0, 81.0, 80.0, 82.0, 0.0, 2],
        ["slda", 50.0, 61.0, 60.0, 62.0, 75.0, 2],
    ]
    assert 'id="Rates"' in draw(report).html


def test_results_of_other_rates_are_not_ranked_together(tmp_path: Path):
    for rate in (None, 5.0, 50.0):
        write(tmp_path, "slda", rate, (80.0,), 0)
        write(tmp_path, "er", rate, (70.0,), 0)
    apart = {
        one.apart: [*map(str, (r.name for r in one.results))]
        for one in gather([tmp_path]).experiments
    }
    assert apart == {
        "5 frames per second": ["slda_5.0", "er_5.0"],
        "50 frames per second": ["slda_50.0", "er_50.0"],
        "a stream that waits": ["slda_None", "er_None"],
    }
