"""Signals that end a command: every one leaves a checkpoint, and the same call goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.complaints import complaints

from crumb import signals
from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.methods.base import Learner

pytestmark = pytest.mark.usefixtures("shared_features")
SHORT = ["--batch-size", "12", "--checkpoint-minutes", "100"]


@pytest.fixture
def commands(dataset: Dataset, network_words: list[str]) -> dict[str, list[str]]:
    """A short call of every command that trains."""
    data, first = [str(dataset.folder), *network_words], ["--epochs-first-task", "2"]
    named, classes = ["--dataset", *data], sorted(dataset.class_names.values())
    ablated = ["--pretrain-classes", *classes[:2], "--pretrain-epochs", "2"]
    return {
        "stream": ["stream", *data, *SHORT, *first, "--method", "finetune"],
        "pretrain": ["pretrain", *data, *SHORT, "--epochs", "2"],
        "tune": ["tune", "finetune", *named, *SHORT[:2], *first, "--trials", "1", "--tasks", "2"],
        "compare": ["compare", *named, *SHORT, *first, "--methods", "finetune", "lwf"],
        "ablate": ["ablate", "half_capacity", *named, *SHORT, *first, *ablated],
    }


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Raises a signal in a step of any learner, once."""

    def arm(number: int, at: int) -> None:
        original, steps = Learner.descend, 0

        def descend(self: Learner) -> None:
            nonlocal steps
            original(self)
            steps += 1
            if steps == at:
                monkeypatch.setattr(Learner, "descend", original)
                signal.raise_signal(number)

        monkeypatch.setattr(Learner, "descend", descend)

    return arm


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        ("stream", signal.SIGUSR2, 140),
        ("stream", signal.SIGHUP, 129),
        ("pretrain", signal.SIGHUP, 129),
        ("tune", signal.SIGUSR1, 138),
        ("compare", signal.SIGUSR1, 138),
        ("ablate", signal.SIGHUP, 129),
    ],
)
def test_a_warning_leaves_a_checkpoint(
    commands: dict[str, list[str]],
    signalled: Callable[[int, int], None],
    output: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    number: int,
    code: int,
):
    words = [*commands[command], "--output", str(output)]
    signalled(number, 3)
    assert main(words) == code
    (line,) = complaints(capsys.readouterr().err)
    assert line.startswith("crumb: interrupted; ")
    assert len([*output.rglob("checkpoints/run*.safetensors")]) == 1
    goes_on = [command, "--resume", str(output)] if command in ("stream", "pretrain") else words
    assert main(goes_on) == 0
    assert "resumes from run" in capsys.readouterr().err
    assert not [*output.rglob("checkpoints/run*.safetensors")]


def test_a_terminal_that_is_closed_leaves_a_checkpoint(words: list[str], output: Path):
    """The process is told with SIGHUP, and cannot print from then on."""
    code = "import sys; from crumb.cli.main import main; sys.exit(main())"
    call = [*words, "--method", "finetune", "--epochs-first-task", "100000"]
    ours, theirs = os.openpty()
    # In a terminal without columns no bar is drawn.
    termios.tcsetwinsize(theirs, (24, 100))
    os.set_blocking(ours, False)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "stream", *call, "--output", str(output)],
        preexec_fn=lambda: os.login_tty(theirs),
    )
    os.close(theirs)
    deadline, shown = time.monotonic() + 120, b""
    # The bar moves when batches are learned.
    while b"task 1" not in shown and time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            shown += os.read(ours, 1 << 16)
        time.sleep(0.02)
    os.close(ours)
    try:
        assert process.wait(60) == 128 + signal.SIGHUP
    finally:
        process.kill()
    assert len([*output.glob("checkpoints/run0_*.safetensors")]) == 1


def test_workers_leave_them_to_the_process_that_keeps_the_record():
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    try:
        signals.ignore()
        ignored = {n for n in signals.ENDING if signal.getsignal(n) is signal.SIG_IGN}
        assert ignored == {*signals.ENDING} - {signal.SIGTERM}
    finally:
        signals.restore(before)
