"""Errors of reconstruction and drift of exemplars, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crumb.analysis.reconstruction import (
    TaskSnapshots,
    cosines,
    drift,
    drift_panel,
    error_panel,
    relative_errors,
    stored_since,
)
from crumb.reports.intervals import bootstrap_interval


def maps(*values: float) -> torch.Tensor:
    """One map of one position."""
    return torch.tensor(values).view(1, -1, 1, 1)


def test_relative_error_and_cosine():
    # |(3, 4)|^2 is 25, the difference (0, 2).
    assert relative_errors(maps(3, 4), maps(3, 2)).tolist() == [4 / 25]
    assert relative_errors(maps(3, 4), maps(0, 0)).tolist() == [1]
    assert cosines(maps(3, 4), maps(6, 8)).tolist() == [1]
    assert cosines(maps(3, 4), maps(4, -3)).tolist() == [0]
    assert cosines(maps(1, 0), maps(3, 4)).tolist() == pytest.approx([0.6])


def test_every_image_by_itself():
    one = torch.cat([maps(3, 4), maps(0, 1)])
    assert relative_errors(one, torch.zeros_like(one)).tolist() == [1, 1]
    assert relative_errors(2 * one, one).tolist() == [0.25, 0.25]


def test_drift_of_indices():
    then = np.array([[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    now = np.array([[1.0, 1.0], [0.0, 2.0], [9.0, 9.0]])
    # The first exemplar uses block 0 twice, the second 0 and 1; none uses 2.
    codes = np.array([[0, 0], [0, 1]])
    assert drift(codes, then, now) == pytest.approx((2 / 2 + 1 / 5) / 2)
    assert drift(codes, then, then) == 0


def test_what_was_stored_since():
    before = {"bed": np.array([[0, 1], [2, 3]])}
    held = {"bed": np.array([[2, 3], [4, 5]]), "car": np.array([[2, 3]])}
    new = stored_since(held, before)
    assert new is not None
    # The same indices of another class are another exemplar.
    assert new.tolist() == [[4, 5], [2, 3]]
    assert stored_since(before, before) is None


def a_run(step: float) -> TaskSnapshots:
    """One block of length 1 that moves by ``step`` with each task; nothing stored in the last."""
    blocks = [np.array([[1.0 + step * task]]) for task in range(3)]
    stored = [np.array([[0]]), np.array([[0, 0]]), None]
    return TaskSnapshots([1, 2, 3], [0.5, 0.6, 0.7], blocks, stored)


def test_drifts_of_a_run():
    found = a_run(1.0).drifts()
    assert found == {(1, 1): 0, (1, 2): 1, (1, 3): 4, (2, 2): 0, (2, 3): 0.25}


def test_panels_of_three_runs():
    runs = [a_run(1.0), a_run(2.0), a_run(3.0)]
    panel = drift_panel(runs)
    assert panel is not None
    cells = {(row[0], row[1]): list(row[2:]) for row in panel.rows}
    assert cells[1, 2] == [pytest.approx(14 / 3), *(bootstrap_interval([1, 4, 9], 0) or ()), 3]
    assert cells[2, 2] == [0, 0, 0, 3]
    errors = error_panel(runs)
    assert [list(row) for row in errors.rows] == [
        [task, pytest.approx(e), e, e, 3] for task, e in ((1, 0.5), (2, 0.6), (3, 0.7))
    ]


def test_nothing_stored_has_no_drift():
    run = a_run(1.0)
    run.stored = [None, None, None]
    assert drift_panel([run]) is None
