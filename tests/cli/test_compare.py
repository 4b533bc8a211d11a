"""``crumb compare`` on real frames: fills the matrix, goes on, says what cannot be."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.complaints import complaints

from crumb.cli import compare as command
from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.errors import DivergedError, InputError
from crumb.experiments.tuned import read_tuned
from crumb.files import read_toml
from crumb.stream import learner
from crumb.stream import run as streams

pytestmark = pytest.mark.usefixtures("shared_features")


@pytest.fixture
def words(dataset: Dataset, network_words: list[str], tmp_path: Path) -> list[str]:
    data = ["--dataset", str(dataset.folder), "--batch-size", "12", "--epochs-first-task", "1"]
    return ["compare", *data, *network_words, "--output", str(tmp_path / "out")]


METHODS = ["--methods", "finetune", "crumb", "er", "--budget-bytes", "30000", "60000"]


def test_a_matrix_is_filled_once(words, tmp_path: Path, capsys, monkeypatch):
    assert main([*words, *METHODS]) == 0
    printed = capsys.readouterr().out
    assert printed.count("better than crumb by mean final accuracy") == 2
    assert "30,000 bytes" in printed
    out = tmp_path / "out"
    folders = ["crumb_30000", "crumb_60000", "er_30000", "er_60000", "finetune"]
    assert sorted(path.parent.name for path in out.glob("*/config.toml")) == folders
    pictures = {f"accuracy_{name}.png" for name in ("over_tasks", "by_bytes", "by_seconds")}
    assert {path.name for path in out.glob("*.*")} == pictures | {"comparison.md", "comparison.csv"}
    with (out / "comparison.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 5
    for row in rows:
        metrics = json.loads((out / _name(row) / "metrics.json").read_text())
        assert float(row["final_accuracy"]) == metrics["runs"][0]["final_accuracy"]
        if row["budget_bytes"]:
            assert 0 < int(row["replay_bytes"]) <= int(row["budget_bytes"])

    # What is finished is read, and no network is built to do so.
    monkeypatch.setattr(learner, "build_network", None)
    assert main([*words, *METHODS]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.usefixtures("no_pictures")
def test_a_compute_budget_is_kept_or_refused(words, tmp_path: Path, capsys):
    """Fine-tuning sends each image through the tail once."""
    methods = ["--methods", "finetune", "crumb", "mir"]
    assert main([*words, *methods, "--compute-budget", "3"]) == 0
    printed = capsys.readouterr().out
    assert "--compute-budget 3: cannot be kept by mir" in printed
    with (tmp_path / "out" / "comparison.csv").open() as file:
        maps = {row["method"]: int(row["tail_maps"]) for row in csv.DictReader(file)}
    assert maps.keys() == {"finetune", "crumb"}
    assert maps["crumb"] / maps["finetune"] == pytest.approx(3, abs=0.1)


@pytest.mark.usefixtures("no_pictures")
def test_a_network_is_built_once_for_all_checks_and_once_a_run(words, monkeypatch):
    built = []
    original = learner.build_network
    monkeypatch.setattr(learner, "build_network", lambda *a: built.append(a) or original(*a))
    assert main([*words, "--methods", "finetune", "stable_sgd", "slda"]) == 0
    assert len(built) == 1 + 3


def test_a_cell_that_fails_does_not_keep_the_others(words, tmp_path: Path, capsys, monkeypatch):
    original = streams.run_once

    def failing(plan):
        if plan.learner.name == "finetune":
            raise InputError("frame.png", "is broken", "repair it")
        return original(plan)

    monkeypatch.setattr(streams, "run_once", failing)
    assert main([*words, "--methods", "finetune", "lwf"]) == 2
    printed, errors = capsys.readouterr()
    assert "finetune failed: frame.png: is broken; repair it" in printed
    assert complaints(errors) == ["crumb: finetune: frame.png: is broken; repair it"]
    assert rows_of(tmp_path / "out") == {"lwf 0"}


def _name(row: dict[str, str]) -> str:
    return f"{row['method']}_{row['budget_bytes']}" if row["budget_bytes"] else row["method"]


@pytest.mark.usefixtures("no_pictures")
def test_more_runs_are_added(words, tmp_path: Path, capsys):
    assert main([*words, "--methods", "finetune"]) == 0
    first = (tmp_path / "out/finetune/runs/run0.json").read_bytes()
    assert main([*words, "--methods", "finetune", "--runs", "2"]) == 0
    assert (tmp_path / "out/finetune/runs/run0.json").read_bytes() == first
    assert "±" in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures")
def test_budgets_that_hold_nothing(words, capsys):
    assert main([*words, "--methods", "finetune", "crumb", "--budget-bytes", "500", "60000"]) == 0
    assert "crumb cannot be run: --budget-bytes 500: holds not even one" in capsys.readouterr().out
    assert main([*words, "--methods", "icarl", "--budget-bytes", "500"]) == 2
    assert "cannot be run: --budget-bytes 500: holds not even one" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
def test_modes_that_cannot_be(words, capsys, tmp_path):
    strict = [word for word in words if word not in ("--epochs-first-task", "1")]
    assert main([*strict, "--mode", "strict", "--methods", "finetune", "mas"]) == 0
    assert "mas cannot be run: --mode strict: cannot be used with mas" in capsys.readouterr().out


def test_a_refusal_is_found_before_anything_is_run(words, capsys, tmp_path, monkeypatch):
    """Two classes before the last task, room for one exemplar."""
    monkeypatch.setattr("crumb.stream.run.run_once", None)
    room = ["--methods", "crumb", "--budget-bytes", "17000", "--classes-per-task", "1"]
    assert main([*words, *room]) == 2
    assert "leaves no exemplar for each of 3 classes" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
def test_the_runs_that_diverged_are_named_and_the_others_done(
    words, tmp_path: Path, capsys, monkeypatch
):
    original = streams.run_once

    def diverging(plan):
        if plan.learner.name == "finetune" and plan.learner.seed in (1, 3):
            raise DivergedError("the loss", "is not finite", "lower lr")
        return original(plan)

    monkeypatch.setattr(streams, "run_once", diverging)
    again = [*words, "--methods", "finetune", "lwf", "--first-run", "1", "--runs", "3"]
    assert main(again) == 0
    said = "the loss: is not finite; lower lr"
    expected = f"finetune diverged in run 1: {said}; diverged in run 3: {said}"
    assert expected in capsys.readouterr().out.splitlines()
    runs = {"finetune 2"} | {f"lwf {run}" for run in "123"}
    assert rows_of(tmp_path / "out") == runs
    monkeypatch.setattr(streams, "run_once", original)
    assert main(again) == 0
    assert len(rows_of(tmp_path / "out")) == 6


def rows_of(folder: Path) -> set[str]:
    with (folder / "comparison.csv").open() as file:
        return {f"{row['method']} {row['run']}" for row in csv.DictReader(file)}


@pytest.mark.usefixtures("no_pictures")
def test_two_calls_at_once_end_with_the_whole_table(words, tmp_path: Path, capsys):
    """A process, and this one from the moment that the other has claimed its first cell."""
    names = ["finetune", "lwf"]
    command = [sys.executable, "-c", "from crumb.cli.main import main; import sys; main()"]
    other = subprocess.Popen(
        [*command, *words, "--methods", *names], stdout=subprocess.PIPE, text=True
    )
    while other.poll() is None and not (tmp_path / "out" / names[0]).exists():
        time.sleep(0.01)
    assert main([*words, "--methods", *names]) == 0
    printed = [other.communicate(timeout=300)[0], capsys.readouterr().out]
    assert other.returncode == 0
    with (tmp_path / "out/comparison.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == {*names}
    # The one that ends last has seen all of it.
    assert any(all(f"\n{name} " in text for name in names) for text in printed)


@pytest.mark.usefixtures("no_pictures")
def test_a_cell_that_another_call_finishes_meanwhile_is_in_the_table(
    words, tmp_path: Path, capsys, monkeypatch
):
    """One that was not asked for here, with settings of its own, between the runs and the table."""
    compared = command.compare

    def other_call_ends(config, network):
        outcome = compared(config, network)
        monkeypatch.setattr(command, "compare", compared)
        assert main([*words, "--methods", "offline", "lwf"]) == 0
        own = tmp_path / "out/lwf/config.toml"
        own.write_text(own.read_text().replace("lr = 0.001", "lr = 0.5"))
        return outcome

    monkeypatch.setattr(command, "compare", other_call_ends)
    assert main([*words, "--methods", "finetune"]) == 0
    assert rows_of(tmp_path / "out") == {"finetune 0", "lwf 0", "offline 0"}
    last = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lwf ")][-1]
    assert last.endswith("lr 0.5")


@pytest.mark.usefixtures("no_pictures")
def test_what_an_earlier_call_left_stays_in_the_tables(words, tmp_path: Path, capsys):
    assert main([*words, "--methods", "finetune", "crumb", "--budget-bytes", "60000"]) == 0
    assert main([*words, "--methods", "lwf"]) == 0
    with (tmp_path / "out/comparison.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"finetune", "crumb", "lwf"}


@pytest.mark.usefixtures("no_pictures")
def test_results_of_other_settings_are_refused_at_once(words, tmp_path: Path, capsys, monkeypatch):
    assert main([*words, "--methods", "finetune"]) == 0
    capsys.readouterr()
    monkeypatch.setattr("crumb.stream.run.run_once", None)
    assert main([*words, "--methods", "lwf", "finetune", "--clip", "3"]) == 2
    assert "has no flag --clip" in capsys.readouterr().err
    assert main([*words, "--methods", "lwf", "finetune", "--epochs", "2"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"crumb: {tmp_path / 'out/finetune'}: was made with stream.epochs = 1")
    assert "--resume" not in errors


@pytest.mark.parametrize("name", ["comparison.md", "comparison.csv"])
def test_files_of_the_user_are_not_written_over(words, tmp_path: Path, capsys, name: str):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("my notes")
    assert main([*words, "--methods", "finetune"]) == 2
    assert f"{name}: does not belong to a comparison" in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_text() == "my notes"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--methods", "magic"], "--methods magic: no such method"),
        (["--methods", "er", "er"], "--methods: names one twice"),
        (["--methods", "all", "er"], "--methods all: already includes all methods"),
        (["--budget-bytes", "0"], "--budget-bytes 0: is below 1"),
        (["--budget-bytes", "9", "9"], "--budget-bytes: names one twice"),
        (["--methods", "lwf", "--budget-bytes", "9"], "--budget-bytes: has no effect with methods"),
        (["--methods", "lwf", "--compute-budget", "9"], "--compute-budget: has no effect with"),
        (["--compute-budget", "1"], "--compute-budget 1: is out of range"),
        (["--methods"], "--methods: has no value"),
        (["--preset", "core50/crumb"], "crumb compare: "),
    ],
)
def test_bad_words_are_one_line(words, capsys, more, line):
    assert main([*words, *more]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"crumb: {line}")
    assert errors.count("\n") == 1


def test_a_missing_data_set_is_one_line(tmp_path: Path, capsys):
    assert main(["compare", "--dataset", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
def test_tuned_settings_are_used_and_said(words, dataset, network_words, tmp_path, capsys):
    tuned = tmp_path / "tuned"
    search = ["--trials", "2", "--tasks", "2", "--batch-size", "12", "--epochs-first-task", "1"]
    data = ["--dataset", str(dataset.folder), *network_words]
    assert main(["tune", "finetune", *data, *search, "--output", str(tuned / "finetune")]) == 0
    capsys.readouterr()
    methods = ["--methods", "finetune", "lwf"]
    assert main([*words, *methods, "--tuned", str(tuned)]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    chosen = read_tuned(tuned / "finetune", "finetune").values["lr"]
    assert rows["finetune"].endswith(f"lr {chosen:g}")
    assert rows["lwf"].endswith("defaults")
    config = read_toml(tmp_path / "out/finetune/config.toml", "")
    assert config["method"]["lr"] == chosen
    assert main([*words, *methods]) == (0 if chosen == 0.001 else 2)
    assert main([*words, "--methods", "lwf", "--tuned", str(tuned)]) == 2
    error = capsys.readouterr().err
    assert "holds no METHOD/tuned.toml" in error
    assert f"write them with crumb tune METHOD --output {tuned}/METHOD" in error
    again = [*words, *methods, "--tuned", str(tuned)]
    for flag, value in (("--mode", "strict"), ("--backbone", "squeezenet1_0")):
        assert main([*again, flag, value]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"crumb: {tuned}/finetune/tuned.toml: was tuned with {flag} ")
        assert f", not {value}; give a file tuned with {flag} {value}" in line


@pytest.mark.usefixtures("no_pictures")
def test_a_file_of_settings_for_one_method(words, tmp_path: Path, capsys):
    """Only that method has them, they are recorded, and a later call for others keeps them."""
    own = tmp_path / "er.toml"
    own.write_text('lr = 0.02\nreplay_coefficient = 2\nstorage = "raw_feature"\n')
    settings = ["--settings", f"er={own}"]
    budget = ["--budget-bytes", "60000"]
    assert main([*words, "--methods", "er", "finetune", *budget, *settings]) == 0
    recorded = read_toml(tmp_path / "out/er_60000/config.toml", "")["method"]
    assert (recorded["lr"], recorded["replay_coefficient"]) == (0.02, 2.0)
    assert read_toml(tmp_path / "out/finetune/config.toml", "")["method"]["lr"] == 0.001
    capsys.readouterr()
    assert main([*words, "--methods", "lwf"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert rows["er"].endswith("lr 0.02, storage raw_feature, replay_coefficient 2")
    assert rows["lwf"].endswith("defaults")
    # Without the file the settings are others.
    assert main([*words, "--methods", "er", *budget]) == 2
    assert "was made with method." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "text", "line"),
    [
        ("er", "", "--settings er: is not METHOD=FILE; give for example er=er.toml"),
        ("lwf={}", "", "is for a method that is not compared; add it to --methods"),
        ("er={}", "lrr = 1", "own.toml: has an unknown key 'lrr' (did you mean lr?)"),
        ("er={}", "lr = -1", "own.toml, --lr -1.0: is out of range"),
        ("er={}", 'lr = "much"', "own.toml, --lr much: is of the wrong type"),
        ("er={}", "budget_bytes = 9", "own.toml: sets budget_bytes, which a comparison gives"),
        ("er={}", "compute_budget = 9", "own.toml: sets compute_budget, which a comparison"),
        ("er={}", "lr = ", "own.toml: is not valid TOML"),
        ("er={}", None, "own.toml: cannot be read"),
    ],
)
def test_files_of_settings_that_do_not_fit(words, tmp_path: Path, refused, given, text, line):
    file = tmp_path / "own.toml"
    if text is not None:
        file.write_text(text)
    more = ["--methods", "er", "--budget-bytes", "60000", "--settings", given.format(file)]
    refused(*words, *more, names=line, at=tmp_path)


def test_two_files_for_one_method(words, tmp_path: Path, refused):
    more = ["--methods", "er", "--settings", "er=a.toml", "er=b.toml"]
    refused(*words, *more, names="--settings er=b.toml: is the second file of er", at=tmp_path)


@pytest.mark.usefixtures("no_pictures")
def test_tuned_files_of_each_budget(words, tmp_path: Path, refused):
    """A file of another budget is refused, also with --settings; each budget may have its own."""
    text = (
        '[about]\nformat = "crumb-tuned"\nversion = 1\nmode = "paper"\nbudget_bytes = {}\n'
        'backbone = "test_efficientnet"\n[stream]\nmethod = "er"\n[method]\nlr = {}\n'
    )
    tuned = tmp_path / "tuned"
    for name, budget, lr in (("er", 60000, 0.02), ("er_90000", 90000, 0.03)):
        (tuned / name).mkdir(parents=True)
        (tuned / name / "tuned.toml").write_text(text.format(budget, lr))
    both = [*words, "--methods", "er", "--budget-bytes", "60000", "90000"]
    assert main([*both, "--tuned", str(tuned)]) == 0
    rates = [read_toml(tmp_path / f"out/er_{b}/config.toml", "") for b in (60000, 90000)]
    assert [one["method"]["lr"] for one in rates] == [0.02, 0.03]
    said = "was tuned with --budget-bytes 60000, not 90000; give a file tuned with --budget-bytes"
    (tuned / "er_90000/tuned.toml").unlink()
    refused(*both, "--tuned", tuned, names=(f"{tuned}/er/tuned.toml", said), at=tmp_path)
    single = ["--settings", f"er={tuned}/er/tuned.toml"]
    refused(*both, *single, names=(f"{tuned}/er/tuned.toml", said), at=tmp_path)
