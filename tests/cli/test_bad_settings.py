"""Settings that contradict one another, or that would change nothing."""

from pathlib import Path

import pytest

from crumb.cli.main import main

BEST = "--select-best-epoch"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        # Two ways to say one thing.
        (["--memory-size", "10", "--memory-bytes", "9000"], ("--memory-size", "--memory-bytes")),
        (["--preset", "core50/crumb", "--resume", "gone"], ("--preset", "--resume")),
        # What there is no memory for.
        (["--storage", "none", "--memory-size", "10"], ("--storage none", "--memory-size")),
        (["--storage", "merec", "--memory-bytes", "999"], ("--storage merec", "--memory-bytes")),
        (["--storage", "none", "--replay-times", "3"], ("--replay-times 3", "--storage none")),
        (
            ["--storage", "none", "--replay-coefficient", "2"],
            ("--replay-coefficient 2.0", "--storage none"),
        ),
        (
            ["--replay-times", "0", "--replay-coefficient", "2"],
            ("--replay-coefficient 2.0", "--replay-times 0"),
        ),
        # What there is no codebook for.
        (["--storage", "raw_feature", "--blocks", "64"], ("--blocks 64", "--storage raw_feature")),
        (["--storage", "image", "--block-length", "8"], ("--block-length 8", "--storage image")),
        (
            ["--storage", "merec", "--initialiser", "normal"],
            ("--initialiser normal", "--storage merec"),
        ),
        (["--storage", "image", "--codebook-loss", "2"], ("--codebook-loss 2.0", "image")),
        (["--storage", "image", "--direct-loss", "0.5"], ("--direct-loss 0.5", "--storage image")),
        (["--codebook-loss", "0"], ("--codebook-loss 0", "--direct-loss")),
        # What nothing is selected by.
        (["--validation-share", "0.2"], ("--validation-share 0.2", BEST)),
        ([BEST, "--epochs-first-task", "1"], (BEST, "--epochs 1")),
        # What the machine or the method does not have.
        (["--device", "cpu", "--precision", "tf32"], "--precision tf32"),
        (["--method", "finetune", "--memory-size", "10"], "--memory-size"),
        (["--method", "offline", "--storage", "image"], "--storage"),
        (["--method", "finetune", "--preset", "core50/crumb"], ("core50/crumb", "'memory_size'")),
        (["--filelists", "/no/lists", "--protocol", "iid"], "/no/lists/iid/run0/stream"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_contradictions(refused, stream, flags: list[str], names: tuple[str, ...] | str):
    refused(*stream, *flags, names=names)


@pytest.mark.parametrize(
    "flags",
    [
        ["--storage", "none", "--replay-times", "0"],
        ["--storage", "raw_feature", "--codebook-loss", "0", "--direct-loss", "1"],
    ],
    ids=" ".join,
)
def test_settings_that_say_what_is_done_anyway(stream, flags: list[str]):
    words = [*stream, "--epochs-first-task", "1", "--memory-size", "8", *flags]
    if "none" in flags:
        words = [word for word in words if word not in ("--memory-size", "8")]
    assert main([*map(str, words)]) == 0


@pytest.mark.parametrize("storage", ["image", "raw_feature", "merec", "none"])
def test_written_settings_are_read_back(stream, output: Path, storage: str):
    """What is filled in and written beside the results is no contradiction when it is read."""
    words = [*stream, "--storage", storage, "--epochs-first-task", "1"]
    assert main([*map(str, words)]) == 0
    assert main(["stream", "--resume", str(output)]) == 0


@pytest.mark.parametrize(
    "flags",
    [
        ["--memory-size", "10"],
        ["--memory-bytes", "9000"],
        ["--storage", "image"],
        ["--write-policy", "on-arrival"],
        ["--replay-times", "2"],
        ["--replay-coefficient", "1.5"],
    ],
    ids=" ".join,
)
def test_a_memory_in_pretraining(refused, stream, flags: list[str]):
    refused("pretrain", *stream[1:], *flags, names=" ".join(flags))


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--images-per-task", "9"], ("--images-per-task 9", "--protocol instance class_iid")),
        (["--protocol", "iid", "--clips-per-task", "2"], ("--clips-per-task 2", "--protocol iid")),
        (["--protocol"], "--protocol"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_contradictions_of_tasks(refused, dataset, output: Path, flags: list[str], names):
    protocols = ["--protocol", "instance", "class_iid"]
    refused("tasks", dataset.folder, "--output", output, *protocols, *flags, names=names)


def test_going_on_in_one_folder_with_results_in_another(refused, stream, output, tmp_path):
    words = [*map(str, stream), "--method", "finetune", "--epochs-first-task", "1"]
    assert main(words) == 0
    other = tmp_path / "other"
    line = refused("stream", "--resume", output, "--output", other, names=f"--output {other}")
    assert f"--resume {output}" in line


@pytest.mark.parametrize("folder", ["empty", "gone", "file"])
def test_going_on_with_no_results(refused, stream, tmp_path: Path, folder: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    refused(*stream[:-2], "--resume", tmp_path / folder, names=str(tmp_path / folder))
