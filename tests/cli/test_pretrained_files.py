"""``--pretrained`` with a file for each run, and with a part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from crumb.cli.main import main
from crumb.files import read_toml

SHORT = ["--epochs-first-task", "1", "--top-k", "1"]


@pytest.fixture(scope="module")
def files(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for run 0 and one for run 1, with {run} where their numbers are."""
    folder = tmp_path_factory.mktemp("files")
    for run in ("0", "1"):
        more = ["--run", run, "--epochs", "1", "--output", str(folder / run)]
        assert main(["pretrain", *words, *more]) == 0
    return folder / "{run}" / "pretrained.safetensors"


def curves(folder: Path) -> list[str]:
    return (folder / "top1_test_all_direct_all_runs.csv").read_text().splitlines()


def test_each_run_starts_from_its_own_file(words, files: Path, tmp_path: Path):
    stream = ["stream", *words, *SHORT]
    out = tmp_path / "out"
    both = ["--pretrained", str(files), "--runs", "2", "--output", str(out)]
    assert main([*stream, *both]) == 0
    digests = read_toml(out / "config.toml", "")["files"]
    assert digests["pretrained_run0"] != digests["pretrained_run1"]
    for run in ("0", "1"):
        own = str(files).replace("{run}", run)
        alone = ["--pretrained", own, "--first-run", run, "--output", str(tmp_path / run)]
        assert main([*stream, *alone]) == 0
        assert curves(tmp_path / run) == [curves(out)[int(run)]]
    # What the other run began with is not forgotten.
    assert main(["stream", "--resume", str(out), "--runs", "1"]) == 0
    assert read_toml(out / "config.toml", "")["files"] == digests


def test_files_that_have_changed_or_are_missing(words, files: Path, tmp_path: Path, refused):
    first, second = (Path(str(files).replace("{run}", run)).read_bytes() for run in "01")
    own = tmp_path / "0.safetensors"
    own.write_bytes(first)
    out, given = tmp_path / "out", ["--pretrained", str(tmp_path / "{run}.safetensors")]
    assert main(["stream", *words, *SHORT, *given, "--output", str(out)]) == 0
    # Before anything is run.
    missing = f"--pretrained {tmp_path / '1.safetensors'}: is missing, for run 1"
    refused("stream", "--resume", out, "--runs", "2", names=missing, at=out)
    own.write_bytes(second)
    refused("stream", "--resume", out, names="other contents of the file of the pretrained_run0")


def test_parts_are_settings_of_the_stream(words, files: Path, tmp_path: Path):
    found = set()
    for parts in ("both", "weights", "blocks"):
        out = tmp_path / parts
        given = ["--pretrained", str(files), "--pretrained-parts", parts, "--output", str(out)]
        assert main(["stream", *words, *SHORT, *given, "--save-model"]) == 0
        assert read_toml(out / "config.toml", "")["stream"]["pretrained_parts"] == parts
        found.add((out / "learner_run0.safetensors").read_bytes())
    assert len(found) == 3


def test_parts_of_nothing(words, output, refused):
    line = "--pretrained-parts blocks: has no effect without --pretrained"
    refused("stream", *words, "--output", output, "--pretrained-parts", "blocks", names=line)


def test_blocks_for_a_learner_without_any(words, files: Path, output, refused):
    given = ["--pretrained", files, "--pretrained-parts", "blocks", "--output", output]
    line = "--pretrained-parts blocks: has no effect with {} without memory blocks; leave it out"
    refused("stream", *words, *given, "--method", "finetune", names=line.format("finetune"))
    refused("stream", *words, *given, "--storage", "image", names=line.format("crumb"))


def test_a_number_is_no_file(words, output, refused):
    line = "--pretrained 0: is missing, for run 0"
    refused("stream", *words, "--pretrained", "{run}", "--output", output, names=line)
