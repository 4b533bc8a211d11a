"""Output folders, results to resume, and losses: one line that names what is wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import empty, half, text

from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.methods.finetune import Finetune

Refused = Callable[..., str]


# Losses.


def test_a_loss_that_is_not_finite(refused: Refused, stream: list):
    words = ["--lr", "1e30", "--epochs-first-task", "1"]
    line = refused(*stream, *words, names="--lr: task 0, epoch 0, batch 1 (")
    assert ".png" in line


def test_finished_runs_survive_a_later_loss(
    capsys, stream: list, output: Path, monkeypatch: pytest.MonkeyPatch
):
    def learn(self, batch):
        losses = healthy(self, batch)
        return {"direct": losses["direct"] / (0 if self.seed == 1 else 1)}

    words = [str(word) for word in stream] + ["--method", "finetune", "--epochs-first-task", "1"]
    healthy = Finetune.learn
    monkeypatch.setattr(Finetune, "learn", learn)
    assert main([*words]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in output.rglob("*0.*")}
    assert before
    assert main([*words, "--runs", "2", "--resume", str(output)]) == 2
    assert "task 0, epoch 0, batch 0" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in output.rglob("*0.*")} == before
    # Also of the same call.
    shutil.rmtree(output)
    assert main([*words, "--runs", "2"]) == 2
    assert [path.name for path in (output / "runs").iterdir()] == ["run0.json"]
    monkeypatch.undo()
    assert main([*words, "--runs", "2", "--resume", str(output)]) == 0
    assert len((output / "top1_test_all_direct_all_runs.csv").read_text().splitlines()) == 2


# The output folder.


@pytest.mark.parametrize("command", ["stream", "pretrain"])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_output_that_cannot_be_a_folder(
    refused: Refused, words: list[str], tmp_path: Path, command: str, below: str
):
    file = tmp_path / "file"
    file.write_text("mine")
    target = file / below if below else file
    refused(command, *words, "--output", target, names=str(file), at=file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("mine")
    return path


def test_output_of_tasks_below_a_file(refused: Refused, dataset: Dataset, file: Path):
    refused("tasks", dataset.folder, "--output", file / "x", names=str(file), at=file)


def test_output_of_clips_below_a_file(refused: Refused, tree: Path, file: Path):
    words = ["--workers", "1", "--output", file / "x"]
    refused("index", "toybox", tree, *words, names=str(file), at=file)


USUAL = ["--method", "finetune", "--epochs-first-task", "1"]


@pytest.fixture(scope="module")
def one_run(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of one run, of a method that is quick."""
    folder = tmp_path_factory.mktemp("finished") / "results"
    assert main(["stream", *words, *USUAL, "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def finished(one_run: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy of it where results would go."""
    capsys.readouterr()
    return shutil.copytree(one_run, output)


def test_output_with_results(refused: Refused, stream: list, finished: Path):
    refused(*stream, "--method", "finetune", names=(str(finished), "--resume"))


def test_output_of_pretraining_with_results(refused: Refused, words: list[str], finished: Path):
    refused("pretrain", *words, "--output", finished, names=str(finished))


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--lr", "0.5"], "method.lr = 0.02, not 0.5"),
        (["--batch-size", "3"], "stream.batch_size"),
        (["--protocol", "iid"], "stream.protocol"),
        (["--classes", "car", "bed"], "stream.classes"),
        (["--method", "offline"], "method.joint_epochs = None, not 5"),
        (["--no-mem-accuracy"], "stream.evaluation.mem_accuracy"),
    ],
)
def test_resume_with_other_settings(
    refused: Refused, stream: list, finished: Path, flags: list[str], key: str
):
    refused(*stream, *USUAL, "--resume", str(finished), *flags, names=(str(finished), key))


@pytest.mark.parametrize("damage", [half, empty, text, lambda path: path.write_text("{}")])
def test_resume_with_a_damaged_run(
    refused: Refused, stream: list, finished: Path, damage: Callable
):
    path = finished / "runs" / "run0.json"
    damage(path)
    refused(
        *stream, *USUAL, "--runs", "2", "--resume", str(finished), names=(str(path), "remove it")
    )


def test_a_damaged_run_that_is_removed_is_done_again(stream: list, finished: Path, one_run: Path):
    (finished / "runs" / "run0.json").unlink()
    assert main([*map(str, stream), *USUAL, "--resume", str(finished)]) == 0
    for path in one_run.rglob("*_run*.csv"):
        assert path.read_bytes() == (finished / path.relative_to(one_run)).read_bytes()


def test_resume_with_damaged_settings(refused: Refused, stream: list, finished: Path):
    # Cut within a line: where a cut at half falls depends on the length of the paths in it.
    settings = finished / "config.toml"
    settings.write_text(settings.read_text().rpartition("=")[0])
    refused(*stream, *USUAL, "--resume", str(finished), names="config.toml")
