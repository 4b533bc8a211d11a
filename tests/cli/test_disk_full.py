"""A disk that fills up at any write: one line, nothing half-written, nothing lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.complaints import complaints

from crumb import files
from crumb.cli.main import main

pytestmark = pytest.mark.usefixtures("shared_features")
USUAL = ["--runs", "2", "--epochs-first-task", "1", "--save-model", "--checkpoint-batches", "3"]
# How the name of a file begins.
KINDS = {
    "settings": "config.toml",
    "checkpoint": "run0_",
    "model": "learner_run0",
    "table": "top1_",
    "record of the second run": "run1.json",
}
Refused = Callable[..., str]


class Disk:
    """Notes what is written, and is full the first time that a file of one kind is."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.full_for: str | None = None

    def sync(self, descriptor: int) -> None:
        # A file is synced under its temporary name, which begins with a dot.
        self.names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name[1:])
        if self.full_for is not None and self.names[-1].startswith(self.full_for):
            self.full_for = None
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(files.os, "fsync", made.sync)
    return made


def command(words: list[str], folder: Path, cache: Path) -> list[str]:
    # Features are not written, so that all writes are those of the run.
    kept = ["--feature-cache", "memory", "--method", "finetune"]
    return ["stream", *words, *USUAL, *kept, "--output", str(folder)]


def everything(folder: Path) -> dict[Path, bytes]:
    """But for times, and the settings, which name the folder."""
    paths = [*folder.rglob("*.csv"), *folder.rglob("*.safetensors")]
    return {
        path.relative_to(folder): path.read_bytes()
        for path in paths
        if path.name != "hyperparams.csv"
    }


@pytest.fixture(scope="module")
def undisturbed(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """Two finished runs, in which a file of each kind was written."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    counted = Disk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "fsync", counted.sync)
        assert main(command(words, folder, folder)) == 0
    for begin in KINDS.values():
        assert any(name.startswith(begin) for name in counted.names), begin
    return everything(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(
    words: list[str],
    disk: Disk,
    undisturbed: dict[Path, bytes],
    output: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
):
    disk.full_for = KINDS[kind]
    assert main(command(words, output, output)) == 2
    (line,) = complaints(capsys.readouterr().err)
    assert str(output) in line
    assert "cannot be written (No space left on device)" in line
    assert not [*output.rglob(".*")]
    # Space was made.
    begun = (output / "config.toml").exists()
    again = ["stream", "--resume", str(output)] if begun else command(words, output, output)
    assert begun or not output.exists()
    assert main(again) == 0
    assert everything(output) == undisturbed


def test_a_full_disk_while_clips_are_cut_into_frames(
    refused: Refused, clips: Path, output: Path, monkeypatch: pytest.MonkeyPatch
):
    def save(self: Image.Image, path: Path, *settings: object, **more: object) -> None:
        path.write_bytes(b"half a picture")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", save)
    words = ["index", "toybox", clips, "--output", output, "--workers", "1"]
    before = output.parent
    assert main([str(word) for word in words]) == 2
    assert not [path for path in before.rglob("*") if path.is_file() and path.suffix != ".json"]


@pytest.mark.parametrize("place", ["/proc/crumb", "/dev/null/out", "/dev/null", "/sys/crumb/deep"])
@pytest.mark.parametrize("kind", ["stream", "pretrain", "tasks", "index"])
def test_an_output_that_cannot_be_written(
    refused: Refused, words: list[str], clips: Path, place: str, kind: str
):
    sources = {
        "stream": words,
        "pretrain": words,
        "tasks": words[:1],
        "index": ["toybox", str(clips)],
    }
    line = refused(kind, *sources[kind], "--output", place, names=place, at=Path("/dev/null"))
    assert "--output" in line.partition("; ")[2]
