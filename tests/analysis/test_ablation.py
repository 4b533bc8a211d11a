"""Tables of an ablation study against numbers worked out by hand."""

from __future__ import annotations

import pytest

from crumb.analysis import ablation as analysis
from crumb.stream.ablate import Ablation
from crumb.stream.evaluate import Score
from crumb.stream.record import RunRecord


def runs(*finals: float, first: int = 0) -> list[RunRecord]:
    """One record for each final accuracy."""
    return [
        RunRecord(
            first + number,
            ["a", "b"],
            [[Score({(1, "all", "direct"): value}, [value])]],
            [0],
            replay_bytes=100,
            seconds=1.0,
            images=1,
        )
        for number, value in enumerate(finals)
    ]


WHOLE = {"unablated": runs(80.0, 82.0, 84.0)}


def test_each_arm_beside_the_run_that_is_whole():
    study = Ablation({**WHOLE, "less": runs(70, 75, 77), "more": runs(81, 82.5, 84.5)}, {})
    rows = analysis.compared(study)
    less, more = analysis.tests(rows)
    # Differences of -10, -7, -7: d_z is -8 / sqrt(3), and Hedges' J of three runs 1 / sqrt(pi).
    effect = -8 / 3**0.5 * 0.5642
    assert less[:2] == ["less", "-8.0"]
    assert less[3:] == [f"{effect:+.1f}", "0.250", "0.500", "0.250", "3"]
    assert more[:2] == ["more", "+0.7"]
    low, high = map(float, less[2].split(" to "))
    assert -10 <= low < -8 < high <= -7
    *_, said = analysis.test_notes(rows)
    assert said == (
        "p: paired permutation test of 3 runs, two-sided; none can be below 0.25; "
        "Holm: adjusted for 2 arms"
    )
    table = dict(zip(analysis.LONG_TEST_HEAD, analysis.long_tests(rows)[0], strict=True))
    assert table["mean"] == 74
    assert table["difference"] == -8
    assert table["median_difference"] == -7
    assert table["standardised_difference"] == pytest.approx(effect, abs=1e-3)


def test_one_run_gives_neither_interval_nor_size():
    study = Ablation({"unablated": runs(80), "less": runs(70)}, {})
    rows = analysis.compared(study)
    assert analysis.tests(rows) == [["less", "-10.0", "-", "-", "1.000", "1.000", "1.000", "1"]]
    assert "fewer than three runs" in analysis.test_notes(rows)[-1]
    assert analysis.long_tests(rows)[0][3:5] == [None, None]


@pytest.mark.parametrize("others", [runs(70, 75), runs(70, 75, 77, first=1), runs(1, 2, 3, 4)])
def test_an_arm_of_other_runs_is_named_and_not_tested(others: list[RunRecord]):
    study = Ablation({**WHOLE, "odd": others, "more": runs(81, 82, 83)}, {})
    assert [row.arm for row in analysis.compared(study)] == ["more"]
    said = "odd has other runs than unablated, and is not tested beside it"
    assert said in analysis.notes(study)
    assert said in analysis.markdown(study)


def test_arms_without_runs_and_no_arms():
    study = Ablation({**WHOLE, "empty": []}, {"empty": "diverged"})
    assert analysis.compared(study) == []
    assert analysis.tests([]) == analysis.test_notes([]) == []
    assert analysis.notes(study) == ["empty diverged"]
    assert analysis.compared(Ablation({}, {})) == []


def test_markdown_has_both_tables():
    study = Ablation({**WHOLE, "less": runs(70, 75, 77)}, {"gone": "cannot be run: no data"})
    text = analysis.markdown(study)
    assert text.startswith(analysis.MARK)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2 + 2 + 1
    assert {line.count("|") for line in lines[:4]} == {len(analysis.HEAD) + 1}
    assert {line.count("|") for line in lines[4:]} == {len(analysis.TEST_HEAD) + 1}
    assert "- gone cannot be run: no data" in text
