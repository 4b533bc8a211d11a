"""``crumb tune`` from the words to what is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.complaints import complaints

from crumb.cli import stream as stream_command
from crumb.cli.main import main
from crumb.cli.tune import settings
from crumb.errors import InputError
from crumb.experiments.tuned import Trial, write_tuned
from crumb.files import read_toml

Refused = Callable[..., str]
SHORT = ["--classes-per-task", "1", "--epochs-first-task", "1", "--trials", "2"]


@pytest.fixture
def tuning(words: list[str], output: Path) -> list[object]:
    """A short tuning of EWC that would work."""
    return ["tune", "ewc", "--dataset", *words, *SHORT, "--output", output]


def test_what_is_printed_and_that_a_stream_takes_it(
    capsys, tuning: list, words: list[str], output: Path, tmp_path: Path
):
    assert main([*map(str, tuning)]) == 0
    head, first, second, _, titles, _, *table, _, place = capsys.readouterr().out.splitlines()
    assert head == "searched: lr 0.002 to 0.2, regularisation 1 to 20000"
    assert first.startswith("trial 0 (of 2): lr 0.02, regularisation 10000: ")
    assert second.startswith("trial 1 (of 2): lr ")
    assert titles.split()[:3] == ["trial", "lr", "regularisation"]
    assert [row.split()[0] for row in table] == ["0", "1"]
    (chosen,) = [row for row in table if row.endswith("chosen")]
    file = Path(place.removeprefix("for --preset: "))
    assert file == output / "tuned.toml"
    found = read_toml(file, "")
    assert chosen.split()[:2] == [str(found["about"]["trial"]), f"{found['method']['lr']:g}"]
    # Flags win over presets, and the words have a rate.
    at = words.index("--lr")
    rest = [*words[:at], *words[at + 2 :], "--epochs-first-task", "1", "--preset", str(file)]
    assert main(["stream", *rest, "--output", str(tmp_path / "after")]) == 0
    streamed = read_toml(tmp_path / "after" / "config.toml", "")
    assert streamed["stream"]["method"] == "ewc"
    assert {name: streamed["method"][name] for name in found["method"]} == found["method"]


def test_strictly(tuning: list, output: Path):
    """Each frame once; CRUMB stores on arrival."""
    words = ["tune", "crumb", *tuning[2:], "--mode", "strict", "--trials", "1"]
    assert main([*map(str, words)]) == 0
    settings = read_toml(output / "trials" / "00" / "config.toml", "")
    assert settings["method"]["write_policy"] == "on-arrival"


def test_called_again_it_prints_the_same(capsys, tuning: list):
    assert main([*map(str, tuning)]) == 0
    first = capsys.readouterr().out
    assert main([*map(str, tuning)]) == 0
    assert capsys.readouterr().out == first


def test_where_it_goes_by_default(words: list[str], tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["tune", "finetune", "--dataset", *words, *SHORT, "--trials", "1"]
    assert main(words) == 0
    folder = tmp_path / "outputs" / "toybox" / "tuned_test_efficientnet" / "finetune"
    assert {path.name for path in folder.iterdir()} == {"trials", "trials.csv", "tuned.toml"}


def test_a_diverging_trial_is_a_line(capsys, tuning: list):
    flags = ["--lr", "1e20", "--clip", "1e30", "--trials", "1"]
    assert main([*map(str, [*tuning, *flags])]) == 2
    captured = capsys.readouterr()
    assert "trial 0 (of 1): lr 1e+20, regularisation 10000: diverged\n" in captured.out
    (line,) = complaints(captured.err)
    assert line == "crumb: --lr: is too large: every trial diverged; give a smaller one"


def test_help_shows_the_flags_of_the_method(capsys):
    for words, shown in (([], "--replay-coefficient"), (["si"], "--damping")):
        assert main(["tune", *words, "--help-all"]) == 0
        assert shown in capsys.readouterr().out


# Presets.


def test_a_preset_of_streams():
    """Its tasks and its method; what it says of tests is of no use."""
    words = ["crumb", "--dataset", "set", "--preset", "toybox/crumb", "--lr", "0.5"]
    config, network, method = settings(words)
    assert (config.batch_size, config.layout.classes_per_task) == (21, 2)
    assert (network.backbone, method.lr) == ("squeezenet1_0", 0.5)


def test_a_preset_that_selects_epochs(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text("[stream]\nruns = 3\nepochs = 4\n[stream.evaluation]\ntop_k = [1]\n")
    config, _, _ = settings(["crumb", "--dataset", "set", "--preset", str(file)])
    assert config.epochs == 4


def test_a_preset_of_another_method(refused: Refused, tuning: list):
    words = ["tune", "finetune", *tuning[2:], "--preset", "core50/crumb"]
    refused(*words, names="--preset core50/crumb: is for the method 'crumb'")


def test_a_preset_that_is_none(refused: Refused, tuning: list, tmp_path: Path):
    file = tmp_path / "mine.toml"
    for text, named in (("[stream]\ncolour = 1", "'colour'"), ("stream = 1", "stream: is 1")):
        file.write_text(text)
        refused(*tuning, "--preset", file, names=(str(file), named))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], ""),
        (["--mode", "strict"], "was tuned with --mode paper, not strict; give a file tuned with"),
        (["--budget-bytes", "9999"], "was tuned with --budget-bytes 50000, not 9999"),
        (["--backbone", "resnet18"], "was tuned with --backbone squeezenet1_0, not resnet18"),
        (["--memory-size", "9"], "was tuned with --budget-bytes 50000, not without"),
    ],
    ids=str,
)
def test_a_stream_under_the_conditions_of_the_search(tmp_path: Path, flags, said):
    file = tmp_path / "tuned.toml"
    about = {"backbone": "squeezenet1_0", "mode": "paper", "budget_bytes": 50000}
    write_tuned(file, "er", Trial(0, {"lr": 0.5}, 50.0), about)
    budget = [] if "--memory-size" in flags else ["--budget-bytes", "50000"]
    words = ["set", "--preset", str(file), "--backbone", "squeezenet1_0", *budget, *flags]
    if not said:
        assert stream_command.settings(words)[2].lr == 0.5
        return
    with pytest.raises(InputError) as refused:
        stream_command.settings(words)
    assert f"--preset {file}: {said}" in refused.value.in_flags()


# What cannot be done.


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["ewcc"], ("crumb tune ewcc: no such method", "ewc")),
        (["--dataset", "d", "ewc"], "crumb tune: the first word, METHOD, is missing"),
        (["ewc"], "crumb tune ewc: --dataset is missing"),
        (["ewc", "--dataset", "gone"], "gone: is not a folder"),
    ],
    ids=str,
)
def test_words(refused: Refused, words: list[str], names):
    refused("tune", *words, names=names)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--tasks", "5"], ("--tasks 5", "the 4 tasks of", "--classes-per-task")),
        (["--mode", "strict"], "--mode strict"),
        (["--tasks", "1"], "--tasks 1: is below 2"),
        (["--trials", "0"], "--trials 0"),
        (["--validation-share", "1"], "--validation-share 1.0"),
        (["--classes", "car", "dragon"], "dragon"),
        (["--runs", "2"], "--runs"),
        (["--weights", "gone"], "gone"),
        (["--pretrained", "gone"], "gone"),
    ],
    ids=" ".join,
)
def test_flags(refused: Refused, tuning: list, flags: list[str], names):
    refused(*tuning, *flags, names=names)


def test_a_damaged_image(refused: Refused, tuning: list, dataset_copy: Path):
    """Nothing is left behind, not even empty folders."""
    for path in (dataset_copy / "images").rglob("*.png"):
        path.write_text("no image")
    words = ["tune", "ewc", "--dataset", dataset_copy, *tuning[4:]]
    refused(*words, names="images")


def test_a_folder_of_other_settings(refused: Refused, tuning: list, output: Path):
    assert main([*map(str, tuning)]) == 0
    line = refused(*tuning, "--batch-size", "9", names=f"{output}: was made with stream.batch_size")
    assert "--resume" not in line
