"""Calling the command line in this process."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from tests.complaints import complaints

from crumb.cli.main import main
from crumb.stream.record import RunRecord
from crumb.stream.results import Results


def listing(folder: Path) -> dict[Path, bytes | None] | None:
    """Every entry below a folder, files with their content; None where there is nothing."""
    if folder.is_file():
        return {folder: folder.read_bytes()}
    if not folder.exists():
        return None
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def interrupted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C when the first run is finished, and none later."""
    original = Results.add

    def interrupted(self: Results, record: RunRecord) -> None:
        original(self, record)
        monkeypatch.setattr(Results, "add", original)
        raise KeyboardInterrupt

    monkeypatch.setattr(Results, "add", interrupted)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where results would go; nothing is there."""
    return tmp_path / "output"


@pytest.fixture
def stream(words: list[str], output: Path) -> list[object]:
    """A short stream that would work."""
    return ["stream", *words, "--output", output]


@pytest.fixture
def tree(clips: Path, tmp_path: Path) -> Path:
    """A tree of one object."""
    folder = "households/bed_01_pivothead"
    shutil.copytree(clips / folder, tmp_path / "tree" / folder)
    return tmp_path / "tree"


@pytest.fixture
def first_clip(tree: Path) -> Path:
    """The clip that is decoded first."""
    return min(tree.rglob("*.mp4"))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], output: Path) -> Callable[..., str]:
    """Calls a command that must end in one line and leave the output folder as it was.

    The line is returned; it holds all of ``names``.
    """

    def call(*words: object, names: tuple[str, ...] | str, at: Path = output) -> str:
        before = listing(at)
        code = main([*map(str, words)])
        lines = complaints(capsys.readouterr().err)
        assert len(lines) == 1, lines
        assert code == 2
        (line,) = lines
        assert line.startswith("crumb: ")
        assert "Traceback" not in line
        # Subject, problem and remedy; no rule or box of the parser.
        assert ": " in line.removeprefix("crumb: ")
        assert "; " in line
        assert not {"───", "---", "╭"} & {line[i : i + 3] for i in range(len(line))}
        for name in [names] if isinstance(names, str) else names:
            assert name in line
        assert listing(at) == before
        return line

    return call


@pytest.fixture
def in_time() -> Iterator[None]:
    """Ends a test that waits for ever, as for what is written into a pipe."""

    def give_up(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError("this should have been refused, and not be waited for")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)
