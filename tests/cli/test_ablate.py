"""``crumb ablate`` on real frames: a few arms from end to end, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from crumb.cli import ablate as command
from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.errors import DivergedError, InputError
from crumb.experiments import grid
from crumb.experiments.pretraining import Pretrainings
from crumb.files import read_tensors, read_toml
from crumb.stream import learner, tensorboard
from crumb.stream import run as streams
from crumb.stream.pretrain import PRETRAINED

pytestmark = pytest.mark.usefixtures("shared_features")
TWO = ["half_capacity", "pretrained_weights"]


@pytest.fixture
def shared(dataset: Dataset, network_words: list[str], tmp_path: Path) -> list[str]:
    """What follows the arms."""
    words = ["--dataset", str(dataset.folder), *network_words, "--output", str(tmp_path / "out")]
    words += ["--batch-size", "12", "--epochs-first-task", "1", "--classes-per-task", "1"]
    pretraining = ["--pretrain-epochs", "1", "--pretrain-batch-size", "12"]
    return [*words, *pretraining, "--memory-size", "20"]


@pytest.fixture
def words(shared: list[str], dataset: Dataset) -> list[str]:
    """The same, with what to pretrain on."""
    return [*shared, "--pretrain-classes", *sorted(dataset.class_names.values())[:2]]


def test_arms_are_run_once_from_one_pretraining(words, tmp_path: Path, capsys, monkeypatch):
    arms = [*TWO, "pretrained_blocks", "enhanced_features", "image_replay", "merec"]
    arms += ["minus_direct_loss", "early_cut", "block_length_16", "cifar100_pretraining"]
    words += ["--early-cut", "blocks.3"]
    assert main(["ablate", *arms, *words]) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "out"
    ran = ["unablated", *arms[:-2]]
    assert sorted(path.parent.name for path in out.glob("*/config.toml")) == sorted(ran)
    # One that five arms share, one on another loss, and one for the early cut.
    assert len([*out.glob(f"pretrained/*/run0/{PRETRAINED}")]) == 3
    assert not (out / "none").exists()
    assert "block_length_16 is the run unablated with these settings" in printed
    assert "cifar100_pretraining cannot be run: arm cifar100_pretraining: pretrains on" in printed
    with (out / "ablation.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [row["arm"] for row in rows] == ran
    for row in rows:
        metrics = json.loads((out / row["arm"] / "metrics.json").read_text())
        assert float(row["final_accuracy"]) == metrics["runs"][0]["final_accuracy"]
    # A row each, and beside the whole run one for each of the others; a head and a rule above both.
    assert (out / "ablation.md").read_text().count("\n| ") == 2 + len(ran) + 2 + len(ran) - 1
    sizes = {row["arm"]: int(row["replay_bytes"]) for row in rows}
    assert sizes["half_capacity"] == sizes["unablated"] // 2 > 0

    # Networks are built to be checked: one for each cut.
    built, original = [], learner.build_network
    monkeypatch.setattr(learner, "build_network", lambda *a: built.append(a) or original(*a))
    assert main(["ablate", *arms, *words]) == 0
    assert capsys.readouterr().out == printed
    assert len(built) == 2


def test_each_run_starts_from_a_pretraining_of_its_own(words, tmp_path: Path, capsys):
    assert main(["ablate", "no_replay", *words, "--runs", "2"]) == 0
    assert "±" in capsys.readouterr().out
    files = sorted((tmp_path / "out/pretrained").glob(f"*/*/{PRETRAINED}"))
    assert [path.parent.name for path in files] == ["run0", "run1"]
    first, second = (read_tensors(path, "")[0]["codebook.blocks"] for path in files)
    assert not first.equal(second)
    config = read_toml(tmp_path / "out/no_replay/config.toml", "")
    assert config["stream"]["pretrained"].endswith("run{run}/pretrained.safetensors")
    assert {"pretrained_run0", "pretrained_run1"} < config["files"].keys()
    # Fewer runs than before, and more.
    for runs in ("1", "3"):
        assert main(["ablate", "no_replay", *words, "--runs", runs]) == 0


def test_a_later_call_adds_arms_and_finds_what_was_pretrained(words, tmp_path, capsys, monkeypatch):
    assert main(["ablate", "half_capacity", *words]) == 0
    original = streams.run_once

    def streamed_only(plan):
        assert plan.config.protocol != "iid", "pretrains again"
        return original(plan)

    monkeypatch.setattr(streams, "run_once", streamed_only)
    assert main(["ablate", "frozen_memory", *words]) == 0
    with (tmp_path / "out/ablation.csv").open() as file:
        arms = [row["arm"] for row in csv.DictReader(file)]
    assert arms == ["unablated", "frozen_memory", "half_capacity"]


def test_results_of_other_settings_are_refused_at_once(words, tmp_path, capsys, monkeypatch):
    assert main(["ablate", "half_capacity", *words]) == 0
    capsys.readouterr()
    monkeypatch.setattr(streams, "run_once", None)
    for changed in (["--epochs", "2"], ["--pretrain-epochs", "2"]):
        assert main(["ablate", "half_capacity", *words, *changed]) == 2
        errors = capsys.readouterr().err
        assert errors.startswith(f"crumb: {tmp_path / 'out/unablated'}: ")
        assert "was made with stream.epochs" in errors
        assert "--resume" not in errors


def test_a_preset_says_what_the_whole_run_is(words, tmp_path: Path, capsys):
    preset = tmp_path / "own.toml"
    preset.write_text('[stream]\nmethod = "crumb"\nepochs = 2\n[method]\nblocks = 16\n')
    assert main(["ablate", "blocks_16", "no_replay", *words, "--preset", str(preset)]) == 0
    config = read_toml(tmp_path / "out/no_replay/config.toml", "")
    assert (config["stream"]["epochs"], config["method"]["blocks"]) == (2, 16)
    assert "blocks_16 is the run unablated" in capsys.readouterr().out
    preset.write_text('[stream]\nmethod = "er"\n')
    assert main(["ablate", "no_replay", *words, "--preset", str(preset)]) == 2
    assert "is for the method 'er'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ablation.md", "ablation.csv"])
def test_files_of_the_user_are_not_written_over(words, tmp_path: Path, capsys, name: str):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("my notes")
    assert main(["ablate", "no_replay", *words]) == 2
    assert f"{name}: does not belong to an ablation study" in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_text() == "my notes"


@pytest.mark.parametrize(
    ("arms", "more", "line"),
    [
        (["magic"], [], "crumb ablate magic: no such arm; see crumb ablate list"),
        ([], [], "crumb ablate: ARM is missing"),
        (["no_replay", "no_replay"], [], "crumb ablate: is given an arm twice"),
        (["all", "no_replay"], [], "crumb ablate all: already includes all arms"),
        (["no_replay"], ["--storage", "image"], "--storage image: has no memory blocks"),
        (["no_replay"], ["--pretrain-classes"], "--pretrain-classes: has no value"),
        (
            ["no_replay"],
            ["--pretrain-classes", "bed", "ufo"],
            "--pretrain-classes ufo: no such class",
        ),
        (["no_replay"], ["--pretrain-classes", "bed"], "--pretrain-classes bed: is a single class"),
        (["no_replay"], ["--early-cut", "blocks.3"], "--early-cut blocks.3: has no effect without"),
        (["early_cut"], ["--early-cut", ""], "--early-cut: has no value"),
        (["no_replay"], ["--cifar100", "set"], "--cifar100 set: has no effect without the arm"),
        (
            ["no_replay"],
            ["--pretrain-classes", "bed", "bed"],
            "--pretrain-classes: names one twice",
        ),
        (["no_replay"], ["--classes", "bed"], "--pretrain-classes bed: is also streamed"),
        (
            ["no_replay"],
            ["--pretrain-classes", "bed", "bottle", "car", "person"],
            "--pretrain-classes: leave no class to stream",
        ),
        (["no_replay"], ["--pretrained", "file"], "crumb ablate: "),
        (["cifar100_pretraining"], [], "crumb ablate cifar100_pretraining: cannot be run: arm"),
        (["list", "more"], [], "crumb ablate list"),
    ],
)
def test_bad_words_are_one_line(words, capsys, arms, more, line, tmp_path):
    assert main(["ablate", *arms, *words, *more]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"crumb: {line}")
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_to_pretrain_on_must_be_said(shared, capsys):
    assert main(["ablate", "no_replay", *shared]) == 2
    assert "--pretrain-classes: is missing" in capsys.readouterr().err


def test_another_data_set_can_be_pretrained_on(shared, dataset_copy: Path, tmp_path, capsys):
    assert main(["ablate", "no_replay", *shared, "--pretrain-dataset", str(dataset_copy)]) == 0
    config = read_toml(tmp_path / "out/no_replay/config.toml", "")
    assert config["stream"]["classes"] == []
    (path,) = (tmp_path / "out/pretrained").glob("*/run0/config.toml")
    assert read_toml(path, "")["stream"]["dataset"] == str(dataset_copy)


# What a folder holds already.


def table_of(out: Path) -> list[tuple[str, str]]:
    """Arm and run of each row that was written."""
    with (out / "ablation.csv").open() as file:
        return [(row["arm"], row["run"]) for row in csv.DictReader(file)]


def test_calls_of_other_runs_and_arms_keep_the_rows_of_each_other(words, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert main(["ablate", "half_capacity", *words, "--runs", "2"]) == 0
    assert main(["ablate", "half_capacity", "no_replay", *words, "--first-run", "1"]) == 0
    both = [(arm, run) for arm in ("unablated", "half_capacity") for run in "01"]
    assert table_of(out) == [*both, ("no_replay", "1")]
    printed = capsys.readouterr().out
    said = "no_replay is tested on the runs shared with unablated, as it lacks 0"
    assert said in printed
    with (out / "ablation_tests.csv").open() as file:
        runs = {row["arm"]: row["runs"] for row in csv.DictReader(file)}
    assert runs == {"half_capacity": "2", "no_replay": "1"}


def test_what_another_call_finishes_meanwhile_is_in_the_tables(words, tmp_path, monkeypatch):
    original = command.ablate

    def before_another_call(*settings):
        outcome = original(*settings)
        monkeypatch.setattr(command, "ablate", original)
        assert main(["ablate", "no_replay", *words]) == 0
        return outcome

    monkeypatch.setattr(command, "ablate", before_another_call)
    assert main(["ablate", "half_capacity", *words]) == 0
    arms = {arm for arm, _ in table_of(tmp_path / "out")}
    assert arms == {"unablated", "half_capacity", "no_replay"}


def test_other_images_are_pretrained_on_again(shared, dataset_copy: Path, tmp_path: Path, capsys):
    words = [*shared, "--pretrain-dataset", str(dataset_copy)]
    assert main(["ablate", "half_capacity", *words]) == 0
    ((before),) = (tmp_path / "out/pretrained").iterdir()
    image = next(dataset_copy.rglob("*.png"), None) or next(dataset_copy.rglob("*.jpg"))
    image.write_bytes(image.read_bytes() + b"\0")
    # What was run from the old ones does not stand beside what would be run from the new.
    assert main(["ablate", "half_capacity", *words]) == 2
    errors = capsys.readouterr().err
    assert "unablated: starts from a pretraining that read images of other names" in errors
    words[words.index("--output") + 1] = str(tmp_path / "other")
    assert main(["ablate", "half_capacity", *words]) == 0
    (after,) = (tmp_path / "other/pretrained").iterdir()
    assert after.name != before.name


def test_finished_arms_are_not_pretrained_again(words, tmp_path: Path, capsys, monkeypatch):
    assert main(["ablate", "half_capacity", *words]) == 0
    printed = capsys.readouterr().out
    shutil.rmtree(tmp_path / "out/pretrained")
    with monkeypatch.context() as patched:
        patched.setattr(streams, "run_once", None)
        assert main(["ablate", "half_capacity", *words]) == 0
    assert capsys.readouterr().out == printed
    # Of two runs only the one that is left.
    assert main(["ablate", "half_capacity", *words, "--runs", "2"]) == 0
    files = (tmp_path / "out/pretrained").glob(f"*/*/{PRETRAINED}")
    assert [path.parent.name for path in files] == ["run1"]
    assert len(table_of(tmp_path / "out")) == 4


def test_a_study_of_an_earlier_crumb_is_read(words, tmp_path: Path, capsys, monkeypatch):
    """Its pretrainings are named by digests that do not look at the images."""
    original = Pretrainings.job

    def earlier(*args, **settings):
        return replace(original(*args, **settings), more=None)

    with monkeypatch.context() as patched:
        patched.setattr(Pretrainings, "job", earlier)
        assert main(["ablate", "half_capacity", *words]) == 0
    printed = capsys.readouterr().out
    tests = tmp_path / "out/ablation_tests.csv"
    lines = tests.read_text().splitlines()
    # As it was written then.
    tests.write_text("\n".join(",".join(line.split(",")[:13]) for line in lines))
    with monkeypatch.context() as patched:
        patched.setattr(streams, "run_once", None)
        assert main(["ablate", "half_capacity", *words]) == 0
        assert capsys.readouterr().out == printed
        shutil.rmtree(tmp_path / "out/pretrained")
        assert main(["ablate", "half_capacity", *words]) == 0
    assert main(["ablate", "half_capacity", *words, "--pretrain-epochs", "2"]) == 2
    assert "unablated: starts from another pretraining" in capsys.readouterr().err
    # Further runs of its arms, and other arms.
    assert main(["ablate", "half_capacity", "no_replay", *words, "--runs", "2"]) == 0
    assert len(table_of(tmp_path / "out")) == 6


def test_an_arm_that_fails_does_not_keep_the_others(words, tmp_path: Path, capsys, monkeypatch):
    original = grid.carry_out_all

    def failing(job, stores):
        if job.folder.name == "half_capacity":
            raise InputError("frame.png", "is broken", "repair it")
        return original(job, stores)

    monkeypatch.setattr(grid, "carry_out_all", failing)
    assert main(["ablate", "half_capacity", "no_replay", *words]) == 2
    printed, errors = capsys.readouterr()
    assert "half_capacity failed: frame.png: is broken; repair it" in printed
    assert errors.splitlines()[-1] == "crumb: arm half_capacity: frame.png: is broken; repair it"
    assert table_of(tmp_path / "out") == [("unablated", "0"), ("no_replay", "0")]


def test_a_run_that_diverges_does_not_keep_the_others(words, tmp_path: Path, capsys, monkeypatch):
    original = streams.run_once

    def diverging(plan):
        if plan.learner.seed == 1 and plan.config.protocol != "iid" and plan.config.pretrained:
            raise DivergedError("the loss", "is not finite", "lower --lr")
        return original(plan)

    monkeypatch.setattr(streams, "run_once", diverging)
    assert main(["ablate", "half_capacity", "no_pretraining", *words, "--runs", "2"]) == 0
    assert "half_capacity diverged in run 1: the loss: is not finite" in capsys.readouterr().out
    runs = [
        ("unablated", "0"),
        ("half_capacity", "0"),
        ("no_pretraining", "0"),
        ("no_pretraining", "1"),
    ]
    assert table_of(tmp_path / "out") == runs
    monkeypatch.setattr(streams, "run_once", original)
    assert main(["ablate", "half_capacity", "no_pretraining", *words, "--runs", "2"]) == 0
    assert len(table_of(tmp_path / "out")) == 6


def test_arms_that_are_the_same_are_run_once(words, tmp_path: Path, capsys):
    arms = ["block_length_8", "block_length_8_same_bytes", "block_length_16_same_bytes"]
    words[words.index("--memory-size") :] = words[words.index("--memory-size") + 2 :]
    assert main(["ablate", *arms, *words, "--budget-bytes", "300000"]) == 0
    printed = capsys.readouterr().out
    assert "block_length_8_same_bytes is the arm block_length_8 with these settings" in printed
    # Given in bytes, it is as many exemplars.
    assert "block_length_16_same_bytes is the run unablated with these settings" in printed
    assert {arm for arm, _ in table_of(tmp_path / "out")} == {"unablated", "block_length_8"}


def test_a_capacity_of_as_many_bytes_is_told_from_another(words, tmp_path: Path, capsys):
    arms = ["block_length_16_same_bytes", "block_length_8_same_bytes"]
    assert main(["ablate", *arms, *words]) == 0
    said = "block_length_16_same_bytes is the run unablated with these settings"
    assert said in capsys.readouterr().out
    names = {arm for arm, _ in table_of(tmp_path / "out")}
    assert names == {"unablated", "block_length_8_same_bytes"}


def test_half_a_budget_is_half_of_the_exemplars(words, tmp_path: Path):
    words[words.index("--memory-size") :] = words[words.index("--memory-size") + 2 :]
    # Of the codebook, of six exemplars with their row numbers, and of half of one.
    budget = 16 * 256 * 4 + 6 * (800 + 4) + 400
    assert main(["ablate", "half_capacity", *words, "--budget-bytes", str(budget)]) == 0
    held = {
        arm: json.loads((tmp_path / "out" / arm / "metrics.json").read_text())["runs"][0]
        for arm in ("unablated", "half_capacity")
    }
    assert {arm: figures["replay_bytes"] // 800 for arm, figures in held.items()} == {
        "unablated": 6,
        "half_capacity": 3,
    }


def test_an_arm_in_the_folder_that_was_not_asked_for(words, tmp_path: Path, capsys):
    out = tmp_path / "out"
    early = ["--early-cut", "blocks.3"]
    assert main(["ablate", "early_cut", "no_replay", *words, *early]) == 0
    config = out / "no_replay/config.toml"
    config.write_text(config.read_text().replace("clip = 10.0", "clip = 7.0"))
    capsys.readouterr()
    # One with other settings neither stops the call nor is lost without a word.
    assert main(["ablate", "half_capacity", *words]) == 0
    said = "no_replay is not in the tables: it was made with method.clip = 7.0, not 10.0"
    assert said in capsys.readouterr().out
    # One that this call could not run is there all the same, where its settings are the same.
    arms = ["unablated", "half_capacity", "early_cut"]
    assert sorted(table_of(out)) == sorted((arm, "0") for arm in arms)
    config = out / "early_cut/config.toml"
    config.write_text(config.read_text().replace("clip = 10.0", "clip = 7.0"))
    assert main(["ablate", "half_capacity", *words]) == 0
    assert "early_cut is not in the tables: " in capsys.readouterr().out
    assert sorted(table_of(out)) == sorted((arm, "0") for arm in arms[:2])


def test_a_damaged_pretrained_file_is_named(words, tmp_path: Path, capsys):
    assert main(["ablate", "half_capacity", *words]) == 0
    (path,) = (tmp_path / "out/pretrained").glob(f"*/*/{PRETRAINED}")
    path.write_bytes(path.read_bytes()[:-7])
    capsys.readouterr()
    assert main(["ablate", "half_capacity", *words]) == 2
    assert f"remove {path}, which will be repeated" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out/unablated")
    shutil.rmtree(tmp_path / "out/half_capacity")
    assert main(["ablate", "half_capacity", *words]) == 2
    *_, errors = capsys.readouterr().err.splitlines(True)
    assert errors.startswith(f"crumb: arm unablated: {path}: is not a whole safetensors file")
    assert errors.endswith("; remove it, and it will be made again\n")
    path.unlink()
    assert main(["ablate", "half_capacity", *words]) == 0


def test_tensorboard_must_be_installed_before_anything_is_run(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    assert main(["ablate", "half_capacity", *words, "--tensorboard"]) == 2
    assert "--tensorboard: needs the tensorboard package" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
