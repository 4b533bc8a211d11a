"""Commands from end to end, and how they end: exit codes, closed pipes, signals."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.complaints import complaints

import crumb
from crumb.cli.main import COMMANDS, main
from crumb.data.index import Dataset
from crumb.data.protocol import PROTOCOLS

pytestmark = pytest.mark.usefixtures("shared_features")
PROGRAM = [sys.executable, "-c", "import sys; from crumb.cli.main import main; sys.exit(main())"]

Started = Callable[..., subprocess.Popen]


@pytest.fixture
def started() -> Iterator[Started]:
    """Starts the command in a process of its own, which ends with the test at the latest."""
    processes: list[subprocess.Popen] = []

    def start(*words: object) -> subprocess.Popen:
        command = [*PROGRAM, *map(str, words)]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


# Help.


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_lists_every_command(capsys, words: list[str]):
    assert main(words) == 0
    printed = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command} " in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(capsys, command: str):
    assert main([command, "--help"]) == 0
    captured = capsys.readouterr()
    assert f"crumb {command}" in captured.out
    assert captured.err == ""


def test_help_shows_the_flags_of_the_method(capsys):
    main(["stream", "--help"])
    assert "--memory-size" in capsys.readouterr().out
    main(["stream", "--method", "finetune", "--help"])
    assert "--memory-size" not in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"crumb {crumb.__version__}\n"


def test_a_reader_that_stops_reading(started: Started, monkeypatch: pytest.MonkeyPatch):
    """Help of the parser in a process, which must say nothing at its end; our own in this one."""
    process = started("stream", "--help")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["--help"]) == 141
    assert process.wait(60) == 141
    assert process.stderr.read() == ""


# What commands do.


def test_index_then_stats(capsys, clips: Path, tmp_path: Path):
    tree, folder = tmp_path / "tree", tmp_path / "set"
    (tree / "vehicles").mkdir(parents=True)
    (tree / "vehicles" / "car_01_pivothead").symlink_to(clips / "vehicles" / "car_01_pivothead")
    assert main(["index", "toybox", str(tree), "--output", str(folder), "--workers", "1"]) == 0
    report, place = capsys.readouterr().out.rsplit("data set: ", 1)
    assert place == f"{folder}\n"
    assert "150" in report
    assert "left out" not in report
    assert main(["data", "stats", str(folder)]) == 0
    assert capsys.readouterr().out == report


def test_index_says_what_is_left_out(capsys, clips: Path, tmp_path: Path):
    tree = tmp_path / "tree"
    shutil.copytree(clips / "vehicles/car_01_pivothead", tree / "vehicles/car_01_pivothead")
    clip = min(tree.rglob("*.mp4"))
    (tree / "vehicles/car_02_pivothead").mkdir()
    shutil.copy(clip, tree / "vehicles/car_02_pivothead/car_02_pivothead_tx.mp4")
    words = ["index", "toybox", str(tree), "--output", str(tmp_path / "set"), "--workers", "1"]
    assert main(words) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == (
        "left out: car object 2 "
        "(no rxplus, ryplus, rzplus, rxminus, ryminus, rzminus, ty, tz, hodgepodge)"
    )
    assert second == "toybox: 150 images of 1 classes"


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("index", "call it again: what is finished is not done again"),
        ("demo", "call it again: what is finished is not done again"),
        ("compare --dataset set", "call it again: what is finished is not done again"),
        ("tune er --dataset set", "call it again: what is finished is not done again"),
        ("pretrain set", "there is nothing to resume"),
    ],
)
def test_what_to_do_after_an_interruption(monkeypatch, capsys, words: str, advice: str):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"crumb.cli.{words.split()[0]}.run", interrupted)
    assert main(words.split()) == 130
    assert capsys.readouterr().err == f"\ncrumb: interrupted; {advice}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_library_makes_another_error_of_a_signal(monkeypatch, capsys, number: int, code: int):
    def converted(words):
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except BaseException:
            raise RuntimeError("a callback failed") from None

    monkeypatch.setattr("crumb.cli.tune.run", converted)
    before = signal.getsignal(number)
    assert main(["tune", "er", "--dataset", "set"]) == code
    assert signal.getsignal(number) is before
    said = "\ncrumb: interrupted; call it again: what is finished is not done again\n"
    assert capsys.readouterr().err == said


def test_an_ignored_signal_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr("crumb.cli.tune.run", lambda words: os.kill(os.getpid(), signal.SIGINT))
    try:
        assert main(["tune", "er", "--dataset", "set"]) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_stats_of_an_index_file(capsys, dataset: Dataset):
    assert main(["data", "stats", str(dataset.folder / "toybox_dirmap.csv")]) == 0
    printed = capsys.readouterr().out
    # The record beside it names this file, so the data set is what is looked at.
    assert main(["data", "stats", str(dataset.folder)]) == 0
    assert capsys.readouterr().out == printed


def test_stats_of_an_index_file_alone(capsys, dataset: Dataset, tmp_path: Path):
    shutil.copy(dataset.folder / "dataset.json", tmp_path)
    for folder, name in ((tmp_path, "other.csv"), (tmp_path / "alone", "toybox_dirmap.csv")):
        folder.mkdir(exist_ok=True)
        shutil.copy(dataset.folder / "toybox_dirmap.csv", folder / name)
        assert main(["data", "stats", str(folder / name)]) == 0
        printed = capsys.readouterr().out
        head = f"{name}: {len(dataset.index)} images of {len(dataset.class_names)} classes\n"
        assert printed.startswith(head)
        assert "images per session" in printed
        assert all(f"class {number} " in printed for number in dataset.class_names)


def test_tasks(capsys, dataset: Dataset, tmp_path: Path):
    words = ["tasks", str(dataset.folder), "--runs", "2", "--output", str(tmp_path)]
    assert main(words) == 0
    assert main([*words, "--offline", "--protocol", "iid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(": 2 runs in " in line for line in lines)
    one = ["tasks", str(dataset.folder), "--runs", "1", "--output", str(tmp_path / "one")]
    assert main([*one, "--protocol", "iid", "instance"]) == 0
    assert [line.split(" in ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "iid, stream: 1 run",
        "instance, stream: 1 run",
    ]
    shutil.rmtree(tmp_path / "one")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*_filelist.txt")}
    names = ["train_task_00_filelist.txt", "train_task_01_filelist.txt", "test_filelist.txt"]
    folders = [f"{protocol}/run{run}/stream" for protocol in PROTOCOLS for run in (0, 1)]
    folders += ["iid/run0/offline", "iid/run1/offline"]
    assert found == {f"{folder}/{name}" for folder in folders for name in names}


def test_methods(capsys):
    assert main(["methods"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"crumb", "finetune", "offline"} <= set(names)


def test_pretrain_then_stream(capsys, words: list[str], tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["pretrain", *words, "--epochs", "1", "--output", str(first)]) == 0
    *table, place = capsys.readouterr().out.splitlines()
    assert table[0].startswith("method")
    assert table[2].startswith("pretraining")
    file = place.removeprefix("for --pretrained: ")
    assert Path(file).is_file()
    assert main(["stream", *words, "--pretrained", file, "--output", str(second)]) == 0
    *table, place, model, predict, report = capsys.readouterr().out.splitlines()
    assert table[2].startswith("crumb")
    assert place == f"results: {second}"
    learner = second / "learner_run0.safetensors"
    assert learner.is_file()
    assert model == f"model: {learner}"
    assert predict == f"next: crumb predict {learner} CLIP"
    assert report == f"next: crumb report {second}"


def test_where_results_go_by_default(words: list[str], tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["stream", *words, "--method", "finetune", "--epochs-first-task", "1"]) == 0
    folder = tmp_path / "outputs" / "toybox" / "class_instance" / "finetune_test_efficientnet"
    assert (folder / "metrics.json").is_file()


# Signals.


def tables(folder: Path) -> dict[str, bytes]:
    """Every table but the settings, which hold the name of the folder."""
    paths = [path for path in folder.rglob("*.csv") if path.name != "hyperparams.csv"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def wait_for(path: Path, process: subprocess.Popen) -> None:
    for _ in range(6000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


@pytest.fixture(scope="module")
def long_stream(words: list[str]) -> list[str]:
    """Two runs long enough that the signal after the first one always meets the second."""
    return ["stream", *words, "--method", "finetune", "--runs", "2", "--epochs-first-task", "20"]


@pytest.fixture(scope="module")
def undisturbed(long_stream: list[str], tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main([*long_stream, "--output", str(folder)]) == 0
    return tables(folder)


def test_an_interrupted_stream_is_resumed(
    started: Started, long_stream: list[str], undisturbed: dict[str, bytes], tmp_path: Path
):
    """By Ctrl-C in its second run."""
    folder = tmp_path / "out"
    process = started(*long_stream, "--output", folder)
    run = folder / "runs" / "run0.json"
    wait_for(run, process)
    os.kill(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = complaints(printed)
    assert line == f"crumb: interrupted; resume with: crumb stream --resume {folder}"
    # Nothing half-written: the finished run, and at most a checkpoint of the other.
    assert [path.name for path in run.parent.iterdir()] == ["run0.json"]
    assert not list(folder.rglob(".*"))
    first = run.read_bytes()
    assert main(["stream", "--resume", str(folder)]) == 0
    assert tables(folder) == undisturbed
    assert run.read_bytes() == first
    assert not (folder / "checkpoints").exists()
