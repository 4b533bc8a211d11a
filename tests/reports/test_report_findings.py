"""Results are found, sorted into what can be compared, and told in words that follow."""

from __future__ import annotations

from pathlib import Path

import pytest
from results_folders import CLASSES, write

from crumb.errors import InputError
from crumb.reports.command import command_of
from crumb.reports.reader import Report, gather, short_names
from crumb.reports.wording import (
    certainty,
    compare_settings,
    experiment_title,
    facts,
    p_value,
    remarks,
    summary,
    title_of,
)

STRONG = {0: 80.0, 1: 82.0, 2: 84.0, 3: 81.0, 4: 83.0}


def lower(by: float, *more: float) -> dict[int, float]:
    """Runs below STRONG by so many points, and by further points run by run."""
    return {r: STRONG[r] - by - extra for r, extra in zip(STRONG, more, strict=False)}


@pytest.fixture
def three(tmp_path: Path) -> Report:
    """crumb is ahead of er by 8 to 12 points and behind gem by 2 to 4."""
    write(tmp_path / "crumb", STRONG)
    write(tmp_path / "er", lower(10, -2, -1, 0, 1, 2), "er")
    write(tmp_path / "gem", lower(-3, 1, -1, 0, 0, 0), "gem")
    return gather([tmp_path])


def family_of(report: Report):
    (experiment,) = report.experiments
    (family,) = experiment.families
    return family


def test_the_findings_worked_by_hand(three):
    """t for 4 is 2.776; deviations: of gem 2, of the differences 1.581 and 0.707."""
    said = summary(family_of(three))
    assert said == [
        "gem has the highest final accuracy of 3 results: 85.0 % (95 % interval 82.5 to 87.5), "
        "over 5 runs. Next is crumb, 3.0 points below.",
        "The others are compared with crumb (the only result of CRUMB). By mean final accuracy "
        "over paired runs, crumb is ahead of 1 and behind 1 of the 2 others.",
        "crumb is behind gem by 3.0 points (95 % interval 2.1 to 3.9, 5 paired runs; paired "
        "permutation p = 0.0625, the smallest possible with 5 runs; p = 0.125 after Holm's "
        "correction over 2 comparisons).",
        "crumb is ahead of er by 10.0 points (95 % interval 8.0 to 12.0, 5 paired runs; paired "
        "permutation p = 0.0625, the smallest possible with 5 runs; p = 0.125 after Holm's "
        "correction over 2 comparisons).",
        "With 5 paired runs and Holm's correction over 2 comparisons, p cannot be below 0.125, "
        "so no difference can be significant at 0.05, however large. More runs are needed.",
    ]


def test_of_one_run_nothing_is_sure(tmp_path: Path):
    write(tmp_path / "crumb", {0: 70.0})
    write(tmp_path / "er", {0: 60.0}, "er")
    said = summary(family_of(gather([tmp_path])))
    assert said[0].startswith(
        "crumb has the highest final accuracy of 2 results: 70.0 %, over 1 run"
    )
    assert said[-2] == "crumb is ahead of er by 10.0 points in the single shared run."
    assert said[-1] == "With one paired run the uncertainty is unknown."
    alone = summary(family_of(gather([tmp_path / "er"])))
    assert alone[-1] == "With one run the uncertainty is unknown."


def test_enough_runs_make_it_sure(tmp_path: Path):
    write(tmp_path / "crumb", {run: 80.0 + run % 3 for run in range(10)})
    write(tmp_path / "er", {run: 70.0 + run % 2 for run in range(10)}, "er")
    write(tmp_path / "si", {run: 80.0 + (run + 1) % 3 for run in range(10)}, "si")
    family = family_of(gather([tmp_path]))
    assert certainty(family.differences).startswith("1 of 2 differences are significant at 0.05")
    (er,) = [one for one in family.differences if one.result.name == "er"]
    assert er.holm_p == pytest.approx(2 * 2 / 2**10)
    alone = family_of(gather([tmp_path / "crumb", tmp_path / "er"]))
    assert certainty(alone.differences) == (
        "The difference is significant at 0.05, by the paired permutation test over runs."
    )
    level = family_of(gather([tmp_path / "crumb", tmp_path / "si"]))
    assert certainty(level.differences).startswith("The difference is not significant at 0.05")


def test_unequal_runs_are_paired_where_both_have_them(tmp_path: Path):
    write(tmp_path / "crumb", STRONG)
    write(tmp_path / "er", {3: 71.0, 4: 73.0, 9: 0.0}, "er")
    write(tmp_path / "si", {7: 50.0}, "si")
    family = family_of(gather([tmp_path]))
    (er,) = family.differences
    assert er.gaps == [-10.0, -10.0]
    assert er.permutation_p == 0.5
    assert [one.name for one in family.unpaired] == ["si"]
    said = " ".join(summary(family))
    assert "Not all results have the same number of runs" in said
    assert "2 paired runs; paired permutation p = 0.5, the smallest possible with 2 runs)" in said
    assert "no run in common with crumb): si." in said


def test_equals_share_the_first_place(tmp_path: Path):
    write(tmp_path / "crumb", STRONG)
    write(tmp_path / "er", {run: STRONG[4 - run] for run in STRONG}, "er")
    said = summary(family_of(gather([tmp_path])))
    assert said[0] == "crumb and er share the highest final accuracy of 2 results: 82.0 %."
    assert said[2].startswith("crumb is level with er (95 % interval -")


def test_an_upper_bound_wins_nothing(tmp_path: Path):
    write(tmp_path / "er", STRONG, "er")
    write(tmp_path / "offline", lower(-10, *[0] * 5), "offline")
    family = family_of(gather([tmp_path]))
    assert family.baseline.name == "er"
    assert not family.differences
    said = summary(family)
    assert said[0].startswith("er ends at 82.0 %")
    assert said[-1].startswith("offline, an upper bound")


@pytest.mark.parametrize(
    ("names", "named", "expected"),
    [
        (["unablated", "crumb", "er"], None, "unablated"),
        (["crumb", "er"], None, "crumb"),
        (["gem", "er"], None, "gem"),
        (["crumb", "er"], "er", "er"),
    ],
)
def test_what_the_others_are_compared_with(tmp_path: Path, names, named, expected):
    for place, name in enumerate(names):
        method = "crumb" if name == "unablated" else name
        write(tmp_path / name, lower(place, *[0] * 5), method)
    family = family_of(gather([tmp_path], named))
    assert family.baseline.name == expected
    assert {one.result.name for one in family.differences} == {*names} - {expected}


def test_a_method_may_be_named_as_well(tmp_path: Path):
    write(tmp_path / "a", STRONG, "er")
    write(tmp_path / "b", STRONG, "gem")
    assert family_of(gather([tmp_path], "gem")).baseline.name == "b"
    write(tmp_path / "c", STRONG, "gem")
    with pytest.raises(InputError, match="--baseline gem: is the method of several .* name one of"):
        gather([tmp_path], "gem")
    with pytest.raises(
        InputError, match="--baseline si: is not one of the results; name one of a, b"
    ):
        gather([tmp_path], "si")


def test_each_budget_is_compared_for_itself(tmp_path: Path):
    for budget in (1000, 9000):
        write(tmp_path / f"crumb_{budget}", STRONG, method_budget_bytes=budget)
        write(tmp_path / f"er_{budget}", lower(5, *[0] * 5), "er", method_budget_bytes=budget)
    write(tmp_path / "finetune", lower(9, *[0] * 5), "finetune", replay=0)
    (experiment,) = gather([tmp_path]).experiments
    found = {
        f.budget: (f.baseline.name, [one.name for one in f.results]) for f in experiment.families
    }
    assert found == {
        1000: ("crumb_1000", ["crumb_1000", "er_1000", "finetune"]),
        9000: ("crumb_9000", ["crumb_9000", "er_9000", "finetune"]),
    }


def test_results_without_a_budget_are_none_of_it(tmp_path: Path):
    for method in ("crumb", "er"):
        for budget in (1000, 9000):
            folder = tmp_path / f"{method}_{budget}"
            write(folder, STRONG, method, method_budget_bytes=budget)
    write(tmp_path / "gem", STRONG, "gem")
    (experiment,) = gather([tmp_path]).experiments
    assert [(family.title, len(family.results)) for family in experiment.families] == [
        ("Memory budget 1,000 bytes", 2),
        ("Memory budget 9,000 bytes", 2),
        ("Without a memory budget in bytes", 1),
    ]


def test_budgets_of_one_method_are_what_is_studied(tmp_path: Path):
    for budget in (1000, 9000):
        write(tmp_path / f"crumb_{budget}", STRONG, method_budget_bytes=budget)
    assert len(family_of(gather([tmp_path])).results) == 2


def test_modes_and_epochs_are_never_in_one_ranking(tmp_path: Path):
    once = {"stream_mode": "strict", "stream_epochs_first_task": 1}
    write(tmp_path / "paper", STRONG)
    write(tmp_path / "more", STRONG, stream_epochs=5)
    for method in ("crumb", "er"):
        write(tmp_path / f"strict_{method}", STRONG, method, **once)
    write(tmp_path / "bound", STRONG, "offline")
    report = gather([tmp_path])
    assert {one.apart: {r.name for r in one.results} for one in report.experiments} == {
        "paper mode, 10 epochs on the first task, then 1": {"paper", "bound"},
        "paper mode, 10 epochs on the first task, then 5": {"more", "bound"},
        "strict mode": {"strict_crumb", "strict_er", "bound"},
    }
    assert len(report.results) == 5
    assert experiment_title(report.experiments[2]) == (
        "toys, class_instance, strict mode: 4 classes in 2 tasks"
    )


def test_streams_are_kept_apart(tmp_path: Path):
    write(tmp_path / "crumb", STRONG)
    write(tmp_path / "other", STRONG, files_index="1" * 64)
    write(tmp_path / "iid", STRONG, stream_protocol="iid")
    write(tmp_path / "large", STRONG, stream_layout={"classes_per_task": 4})
    write(tmp_path / "few", STRONG, stream_classes=["pen", "sofa"])
    report = gather([tmp_path])
    assert [len(one.results) for one in report.experiments] == [1] * 5
    assert "never compared" in remarks(report)[-1]


def test_what_is_not_shown_is_said(three, tmp_path: Path):
    assert remarks(three) == []
    begun = write(tmp_path / "begun", STRONG)
    for path in begun.glob("runs/*"):
        path.unlink()
    text = (begun / "config.toml").read_text()
    pretrained = write(tmp_path / "pretrained", STRONG) / "config.toml"
    pretrained.write_text(text.replace('"stream"', '"pretrain"', 1))
    assert remarks(gather([tmp_path])) == [
        "Not shown because they have no finished run: begun.",
        "Not shown: 1 folder of pretraining.",
    ]
    with pytest.raises(InputError, match="has no finished run of crumb stream"):
        gather([begun])


def test_a_folder_that_is_named_twice_counts_once(three, tmp_path: Path):
    report = gather([tmp_path, tmp_path / "er", tmp_path / "gem/../er"])
    assert sorted(one.name for one in report.results) == ["crumb", "er", "gem"]
    assert title_of(report) == "toys: 3 results from 15 runs"


def test_names_are_as_long_as_they_must_be():
    folders = [Path(name) for name in ("/x/a/crumb", "/x/b/crumb", "/x/b/er")]
    assert short_names(folders) == ["a/crumb", "b/crumb", "er"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("format", "other"), "is not a settings file of format version 1"),
        (("version = 1", "version = 7"), "is not a settings file of format version 1"),
        (('method = "crumb"', 'method = "none"'), "names a method 'none'"),
        (('method = "crumb"', "lost = 1"), "has no stream.method, or one in another format"),
        (("lr = 0.001", 'budget_bytes = "many"'), "says method.budget_bytes = 'many'"),
        (("[stream]", "[stream"), "is not valid TOML"),
    ],
)
def test_damaged_settings(tmp_path: Path, change, match):
    path = write(tmp_path / "crumb", STRONG) / "config.toml"
    path.write_text(path.read_text().replace(change[0], change[1], 1))
    with pytest.raises(InputError, match=match):
        gather([tmp_path])


def test_a_damaged_run(three, tmp_path: Path):
    (tmp_path / "er/runs/run3.json").write_text("{")
    with pytest.raises(InputError, match=r"run3.json: is not valid JSON"):
        gather([tmp_path])


def test_runs_of_unequal_lengths(tmp_path: Path):
    write(tmp_path / "crumb", {0: 70.0})
    write(tmp_path / "other", {1: 70.0}, tasks=3)
    (tmp_path / "other/runs/run1.json").rename(tmp_path / "crumb/runs/run1.json")
    with pytest.raises(InputError, match="runs: have different numbers of tasks"):
        gather([tmp_path / "crumb"])


def test_settings_that_differ(tmp_path: Path):
    write(tmp_path / "a", STRONG)
    write(tmp_path / "b", STRONG, method_lr=0.002, method_blocks=8)
    differ, shared = compare_settings(gather([tmp_path]).results)
    assert {one.name: dict(one.values) for one in differ} == {
        "method.lr": {"0.001": ["a"], "0.002": ["b"]},
        "method.blocks": {"8": ["b"]},
    }
    assert shared["stream.protocol"] == "class_instance"
    assert shared["stream.machine.deterministic"] == "yes"
    assert not {"stream.output", "format", "version"} & shared.keys()


def test_the_facts_hold_what_was_run(three):
    said = dict(facts(three.experiments[0]))
    assert said["classes"] == f"4: {', '.join(sorted(CLASSES))}"
    assert said["tested"].endswith("chance level 25.0 %")
    assert said["runs"] == "5 runs (number 0, 1, 2, 3, 4). The number of a run is its seed"
    assert said["methods"] == "crumb, er, gem"


def test_p_values_are_never_zero():
    assert [p_value(p) for p in (1.0, 0.0625, 0.00195, 6e-5)] == [
        *("= 1", "= 0.0625", "= 0.00195", "< 0.0001")
    ]


def test_the_command_leaves_out_what_is_usual(tmp_path: Path):
    write(tmp_path / "er", {2: 70.0, 3: 71.0}, "er", stream_dataset="/data/my toys", method_lr=0.5)
    (result,) = gather([tmp_path]).results
    assert command_of(result) == (
        "crumb stream '/data/my toys' --epochs-first-task 10 --device cpu --method er "
        "--cut blocks.6 --engine torch --lr 0.5 --runs 2 --first-run 2 --output again/er"
    )


def test_the_command_makes_the_runs_that_there_are_and_no_others(tmp_path: Path):
    write(tmp_path / "er", {0: 70.0, 1: 71.0, 3: 72.0, 6: 73.0, 7: 74.0}, "er")
    (result,) = gather([tmp_path]).results
    first, *others = command_of(result).split(" && ")
    assert first.endswith(" --runs 2 --output again/er")
    assert "--first-run" not in first
    assert others == [
        "crumb stream --resume again/er --runs 1 --first-run 3",
        "crumb stream --resume again/er --runs 2 --first-run 6",
    ]
