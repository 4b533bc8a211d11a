"""``crumb ablate --method crumb2``: the same study of another method, without pretraining."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.files import read_toml
from crumb.stream import run as streams

pytestmark = pytest.mark.usefixtures("shared_features")


@pytest.fixture
def words(dataset: Dataset, network_words: list[str], tmp_path: Path) -> list[str]:
    """What follows the arms."""
    words = ["--method", "crumb2", "--dataset", str(dataset.folder), *network_words]
    words += ["--batch-size", "12", "--epochs-first-task", "1", "--tuning-epochs", "1"]
    return [*words, "--budget-bytes", "64000", "--output", str(tmp_path / "out")]


def test_arms_are_run_and_compared(words: list[str], tmp_path: Path, capsys, monkeypatch):
    arms = ["half_shrinkage", "frozen_tail"]
    assert main(["ablate", *arms, *words]) == 0
    printed, out = capsys.readouterr().out, tmp_path / "out"
    ran = ["unablated", *arms]
    with (out / "ablation.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [row["arm"] for row in rows] == ran
    with (out / "ablation_tests.csv").open() as file:
        gaps = {row["arm"]: float(row["difference"]) for row in csv.DictReader(file)}
    finals = [float(row["final_accuracy"]) for row in rows]
    assert gaps == pytest.approx({arm: finals[n] - finals[0] for n, arm in enumerate(arms, 1)})
    found = {arm: read_toml(out / arm / "config.toml", "") for arm in ran}
    assert {one["stream"]["method"] for one in found.values()} == {"crumb2"}
    assert {one["method"]["budget_bytes"] for one in found.values()} == {64_000}
    assert [found[arm]["method"]["shrinkage"] for arm in ran] == [0.05, 0.025, 0.05]
    assert [found[arm]["method"]["tail"] for arm in ran] == ["first-task"] * 2 + ["frozen"]
    assert not (out / "pretrained").exists()
    # Finished arms are found again, also one that the call does not name.
    monkeypatch.setattr(streams, "run_once", None)
    assert main(["ablate", "half_shrinkage", *words]) == 0
    assert capsys.readouterr().out == printed


def test_how_a_tail_is_tuned_makes_no_arm_of_a_frozen_one(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arms, without_output = (
        ["frozen_tail", "tuning_epochs_2", "tuning_epochs_10", "no_axes"],
        words[:-2],
    )
    assert main(["ablate", *arms, *without_output, "--mode", "strict"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{arm} is the run unablated with these settings" in printed for arm in arms[:3])
    # A study of CRUMB has another default folder.
    (folder,) = tmp_path.glob("outputs/*/*")
    assert folder.name == "ablate_crumb2_class_instance_strict_test_efficientnet"
    found = sorted(path.parent.name for path in folder.glob("*/config.toml"))
    assert found == ["no_axes", "unablated"]


def test_the_list_names_its_arms(capsys):
    assert main(["ablate", "list", "--method", "crumb2"]) == 0
    printed = capsys.readouterr().out
    assert "no_axes " in printed
    assert "no_replay" not in printed
    assert main(["ablate", "list", "--method", "er"]) == 2
    assert capsys.readouterr().err.startswith("crumb: --method er: no such choice; give one of")


@pytest.mark.parametrize(
    ("arms", "more", "line"),
    [
        (["no_replay"], [], "crumb ablate no_replay: no such arm"),
        ([], [], "crumb ablate: ARM is missing; name one or more, or all; crumb ablate list --me"),
        (["no_axes"], ["--pretrain-classes", "a", "b"], "--pretrain-classes: has no effect with"),
        (["no_axes"], ["--pretrain-epochs", "2"], "--pretrain-epochs: has no effect with --metho"),
        (["all"], ["--early-cut", "blocks.3"], "--early-cut: has no effect with --method crumb2"),
        (["no_axes"], ["--memory-size", "9"], "crumb ablate --method crumb2: has no flag --memory"),
        (["no_axes"], ["--method", "er"], "--method er: no such choice; give one of crumb, crumb2"),
        (["rank_2"], ["--rank", "2"], "crumb ablate rank_2: is the run unablated with these set"),
    ],
)
def test_bad_words_are_one_line(words, capsys, arms, more, line, tmp_path: Path):
    assert main(["ablate", *arms, *words, *more]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"crumb: {line}")
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()
