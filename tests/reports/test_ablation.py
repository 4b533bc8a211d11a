"""Tables of an ablation study against numbers worked out by hand."""

from __future__ import annotations

import pytest

from crumb.experiments.ablation import Ablation
from crumb.experiments.arms import UNABLATED
from crumb.reports import ablation as analysis
from crumb.stream.record import RunRecord, Score


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


# Of three differences with one sign: Wilcoxon's, the permutation test's, that for two arms.
P_VALUES = ["0.250", "0.250", "0.500"]
WHOLE = {"unablated": runs(80.0, 82.0, 84.0)}


def test_each_arm_beside_the_run_that_is_whole():
    study = Ablation({**WHOLE, "less": runs(70, 75, 77), "more": runs(81, 82.5, 84.5)}, {})
    rows = analysis.compared(study)
    less, more = analysis.tests(rows).shown()
    # Differences of -10, -7, -7: d_z is -8 / sqrt(3), and Hedges' J of three runs 1 / sqrt(pi).
    effect = -8 / 3**0.5 * 0.5642
    # The sample standard deviation of the differences is sqrt(3).
    assert less == ["less", UNABLATED, "-8.0 ± 1.7", f"{effect:+.1f}", *P_VALUES, "3"]
    assert more[:2] == ["more", UNABLATED]
    assert more[2].startswith("+0.7 ± ")
    *_, said = analysis.test_notes(rows)
    assert said == (
        "p: paired permutation test, two-sided; none of 3 runs can be below 0.25; "
        "p (Holm): the same adjusted for 2 arms, and none below 0.5"
    )
    long = analysis.long_tests(rows)
    table = dict(zip(long.head, long.rows[0], strict=True))
    assert table["mean"] == 74
    assert table["difference"] == -8
    assert table["median_difference"] == -7
    assert table["standardised_difference"] == pytest.approx(effect, abs=1e-3)
    low, high = table["difference_low"], table["difference_high"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert -10 <= low < -8 < high <= -7
    assert table["difference_t_low"] == pytest.approx(-8 - 4.303, abs=1e-3)
    assert table["difference_t_high"] == pytest.approx(-8 + 4.303, abs=1e-3)
    assert table["beside"] == UNABLATED


def test_one_run_gives_neither_interval_nor_size():
    study = Ablation({"unablated": runs(80), "less": runs(70)}, {})
    rows = analysis.compared(study)
    ones = ["1.000"] * 3
    assert analysis.tests(rows).shown() == [["less", UNABLATED, "-10.0", "-", *ones, "1"]]
    assert "at least three runs" in analysis.test_notes(rows)[-1]
    # Never above 1, whatever it is multiplied with.
    assert analysis.test_notes(rows)[-2].endswith("1 arm, and none below 1")
    assert analysis.long_tests(rows).rows[0][3:5] == [None, None]


def test_two_runs_give_a_deviation():
    study = Ablation({"unablated": runs(80, 80), "less": runs(70, 72)}, {})
    # The sample standard deviation of -10 and -8.
    assert analysis.tests(analysis.compared(study)).shown()[0][2] == "-9.0 ± 1.4"


@pytest.mark.parametrize(
    ("others", "count", "difference", "said"),
    [
        (
            runs(70, 75),
            2,
            -8.5,
            "odd is tested on the runs shared with unablated, as it lacks 2",
        ),
        (runs(70, 75, 77, first=1), 2, -10.5, "shared with unablated, as it lacks 0"),
        (runs(1, 2, 3, 4), 3, -80, "odd is tested on the runs shared with unablated"),
    ],
)
def test_an_arm_of_other_runs_is_tested_on_those_in_common(others, count, difference, said):
    study = Ablation({**WHOLE, "odd": others, "more": runs(81, 82, 83)}, {})
    odd, more = analysis.compared(study)
    assert (len(odd.runs), odd.gap.mean) == (count, pytest.approx(difference))
    # It is one of two that are adjusted for.
    assert (len(more.runs), more.holm_p) == (3, min(1, 2 * more.permutation_p))
    assert any(line.endswith(said) for line in analysis.notes(study))
    assert said in analysis.markdown(study)


def test_an_arm_with_no_run_in_common_is_named_and_not_tested():
    study = Ablation({**WHOLE, "odd": runs(70, first=9), "more": runs(81, 82, 83)}, {})
    assert [row.result.name for row in analysis.compared(study)] == ["more"]
    said = "odd shares no run with unablated, so it is not tested"
    assert said in analysis.notes(study)


def test_an_arm_that_changes_two_things_is_beside_one_of_them():
    arms = {**WHOLE, "large": runs(85, 86, 87), "images": runs(88, 90, 92)}
    study = Ablation(arms, {}, {"images": "large"})
    large, images = analysis.compared(study)
    assert (large.reference.name, images.reference.name) == (UNABLATED, "large")
    assert images.gap.mean == pytest.approx(4)
    assert analysis.notes(study) == []
    # Where that one was not run, it is said what the comparison is.
    del arms["large"]
    study = Ablation(arms, {}, {"images": "large"})
    (images,) = analysis.compared(study)
    assert (images.reference.name, images.gap.mean) == (UNABLATED, pytest.approx(8))
    (said,) = analysis.notes(study)
    assert said.startswith(
        "images is compared with unablated, from which it differs in more than one thing"
    )


def test_arms_without_runs_and_no_arms():
    study = Ablation({**WHOLE, "empty": []}, {"empty": "diverged"})
    assert analysis.compared(study) == []
    assert analysis.test_notes([]) == []
    assert analysis.notes(study) == ["empty diverged"]
    assert analysis.compared(Ablation({}, {})) == []


def test_markdown_has_both_tables():
    study = Ablation({**WHOLE, "less": runs(70, 75, 77)}, {"gone": "cannot be run: no data"})
    text = analysis.markdown(study)
    assert text.startswith(analysis.MARK)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2 + 2 + 1
    assert {line.count("|") for line in lines[:4]} == {len(analysis.table(study).head) + 1}
    assert {line.count("|") for line in lines[4:]} == {len(analysis.tests([]).head) + 1}
    assert "- gone cannot be run: no data" in text
