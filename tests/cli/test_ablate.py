"""``crumb ablate`` on real frames: a few arms from end to end, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.files import read_tensors, read_toml
from crumb.stream import run as streams
from crumb.stream.pretrain import PRETRAINED
from crumb.stream.results import Results

TWO = ["half_capacity", "pretrained_weights"]


@pytest.fixture
def shared(dataset: Dataset, network_words: list[str], tmp_path: Path) -> list[str]:
    """What follows the arms."""
    words = ["--dataset", str(dataset.folder), *network_words, "--output", str(tmp_path / "out")]
    words += ["--batch-size", "12", "--epochs-first-task", "1", "--classes-per-task", "1"]
    pretraining = ["--pretrain-epochs", "1", "--pretrain-batch-size", "12"]
    return [*words, *pretraining, "--memory-size", "20", "--early-cut", "blocks.3"]


@pytest.fixture
def words(shared: list[str], dataset: Dataset) -> list[str]:
    """The same, with what to pretrain on."""
    return [*shared, "--pretrain-classes", *sorted(dataset.class_names.values())[:2]]


def test_arms_are_run_once_from_one_pretraining(words, tmp_path: Path, capsys, monkeypatch):
    arms = [*TWO, "pretrained_blocks", "enhanced_features", "image_replay", "merec"]
    arms += ["minus_direct_loss", "early_cut", "block_length_16", "cifar100_pretraining"]
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

    monkeypatch.setattr(streams, "run_once", None)
    assert main(["ablate", *arms, *words]) == 0
    assert capsys.readouterr().out == printed


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


def test_an_interrupted_study_goes_on(words, tmp_path: Path, capsys, monkeypatch):
    original = Results.add

    def interrupted(self, record):
        original(self, record)
        monkeypatch.setattr(Results, "add", original)
        raise KeyboardInterrupt

    monkeypatch.setattr(Results, "add", interrupted)
    assert main(["ablate", "half_capacity", *words]) == 130
    errors = capsys.readouterr().err
    assert "call it again: what is finished is not done again" in errors
    assert "--resume" not in errors
    assert main(["ablate", "half_capacity", *words]) == 0
    assert "\nhalf_capacity" in capsys.readouterr().out


def test_an_arm_that_another_call_is_at_is_left_to_it(words, tmp_path: Path, capsys):
    assert main(["ablate", "half_capacity", *words]) == 0
    capsys.readouterr()
    folder = tmp_path / "out/half_capacity"
    settings = {k: v for k, v in read_toml(folder / "config.toml", "").items() if k != "crumb"}
    with Results(folder, settings, resume=True):
        assert main(["ablate", "half_capacity", *words, "--runs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "half_capacity is being run by another call" in printed
    assert "not all arms have equally many runs" in printed


@pytest.mark.parametrize("changed", [["--epochs", "2"], ["--pretrain-epochs", "2"]])
def test_results_of_other_settings_are_refused_at_once(
    words, tmp_path: Path, capsys, monkeypatch, changed
):
    assert main(["ablate", "half_capacity", *words]) == 0
    capsys.readouterr()
    monkeypatch.setattr(streams, "run_once", None)
    assert main(["ablate", "half_capacity", *words, *changed]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"crumb: {tmp_path / 'out/unablated'}: was made with stream.")
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
    assert "is of the method 'er'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ablation.md", "ablation.csv"])
def test_files_of_the_user_are_not_written_over(words, tmp_path: Path, capsys, name: str):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("my notes")
    assert main(["ablate", "no_replay", *words]) == 2
    assert f"{name}: is not of an ablation study" in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_text() == "my notes"


@pytest.mark.parametrize(
    ("arms", "more", "line"),
    [
        (["magic"], [], "crumb ablate magic: no such arm; see crumb ablate list"),
        ([], [], "crumb ablate: ARM is missing"),
        (["no_replay", "no_replay"], [], "crumb ablate: is given an arm twice"),
        (["all", "no_replay"], [], "crumb ablate all: leaves no others to name"),
        (["no_replay"], ["--storage", "image"], "--storage image: leaves no memory blocks"),
        (["no_replay"], ["--pretrain-classes"], "--pretrain-classes: names no class"),
        (["no_replay"], ["--pretrain-classes", "ufo"], "--pretrain-classes ufo: no such class"),
        (
            ["no_replay"],
            ["--pretrain-classes", "bed", "bed"],
            "--pretrain-classes: names one twice",
        ),
        (["no_replay"], ["--classes", "bed"], "--pretrain-classes bed: is streamed as well"),
        (
            ["no_replay"],
            ["--pretrain-classes", "bed", "bottle", "car", "person"],
            "--pretrain-classes: leave none to be streamed",
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
