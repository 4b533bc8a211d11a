"""Failures that nobody foresaw, of the machine and of ours: one line too, and nothing lost."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from crumb.cli.main import main
from crumb.methods.finetune import Finetune

pytestmark = pytest.mark.usefixtures("shared_features")
Refused = Callable[..., str]


@pytest.fixture
def stream(words: list[str], output: Path) -> list[object]:
    return ["stream", *words, "--method", "finetune", "--output", output]


def fail_with(error: Exception) -> Callable[..., object]:
    def learn(self: Finetune, batch: object) -> object:
        raise error

    return learn


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (MemoryError(), ("crumb stream", "ran out of memory", "--batch-size")),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore."),
            ("crumb stream", "CUDA out of memory", "--test-batch-size"),
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            ("crumb stream", "ran out of memory", "--feature-cache disk"),
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ran out of memory"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/there/it.png"),
            ("/there/it.png", "Permission denied"),
        ),
        (OSError(errno.EIO, "Input/output error"), ("crumb stream", "Input/output error")),
        (KeyError("a\nb"), ("crumb stream", "KeyError", "test_failures.py:", "--debug")),
        (ZeroDivisionError(), ("ZeroDivisionError", "no details")),
        (RuntimeError("long " * 1000), "long long"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_failure_while_learning(
    refused: Refused,
    stream: list[object],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    names: tuple[str, ...] | str,
):
    monkeypatch.setattr(Finetune, "learn", fail_with(error))
    assert len(refused(*stream, names=names)) < 600


@pytest.mark.parametrize("place", ["first", "last"])
def test_debug_adds_the_traceback(
    capsys: pytest.CaptureFixture[str], stream: list[object], place: str
):
    words = [*map(str, stream), "--lr", "-1"]
    assert main(["--debug", *words] if place == "first" else [*words, "--debug"]) == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert last.startswith("crumb: --lr -1")
    assert lines[0] == "Traceback (most recent call last):"


PROGRAM = "import sys; from crumb.cli.main import main; sys.exit(main())"


@pytest.mark.parametrize(
    ("words", "unbuffered"), [(["--version"], ""), (["--version"], "1"), (["stream", "--help"], "")]
)
def test_output_that_cannot_be_written(words: list[str], unbuffered: str):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "(No space left on device); " in line


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_output_that_is_closed(closed: str):
    line = f"exec {shlex.quote(sys.executable)} -c '{PROGRAM}' --version {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
