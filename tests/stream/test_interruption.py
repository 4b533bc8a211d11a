"""Signals at awkward moments: what is saved is never half a step, and none is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.errors import Terminated
from crumb.files import read_tensors
from crumb.methods.crumb import Crumb
from crumb.methods.registry import methods
from crumb.stream import interruption
from crumb.stream.checkpoint import Checkpoints
from crumb.stream.results import Results

Streamed = Callable[..., Results]
WORDS = ["--method", "spy", "--memory-size", "6", "--save-model", "--classes-per-task", "1"]
# Each place is tried with one of them; tests/cli/test_signals.py tries every signal.
INT, TERM = signal.SIGINT, signal.SIGTERM


class Spy:
    """Raises signals at the nth call of a method; twice after another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = {"learn": 0, "end_task": 0, "save": 0, "scores": 0}
        self.at: tuple[str, int] | None = None
        self.signals: list[signal.Signals] = []
        self.saved = 0
        spy = self

        class Spied(Crumb):
            name = "spy"

            def learn(self, batch: Batch) -> dict[str, Tensor]:
                losses = super().learn(batch)
                spy.call("learn")
                return losses

            def end_task(self, batches: Batches) -> None:
                super().end_task(batches)
                if self.tested_after_task_end:
                    for batch in batches:
                        super().learn(batch)
                spy.call("end_task")

            def scores(self, features: Tensor) -> Tensor:
                spy.call("scores")
                return super().scores(features)

        self.kind = Spied
        save = Checkpoints.save

        def saved(self: Checkpoints, *arguments: object) -> None:
            save(self, *arguments)  # type: ignore[arg-type]
            spy.call("save")

        monkeypatch.setattr(Checkpoints, "save", saved)
        monkeypatch.setitem(methods(), "spy", Spied)

    def call(self, name: str) -> None:
        self.calls[name] += 1
        if self.at == (name, self.calls[name]):
            self.at, self.saved = None, self.calls["save"]
            for number in self.signals:
                signal.raise_signal(number)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


@pytest.fixture(scope="module")
def undisturbed() -> dict[tuple[object, ...], Path]:
    """Results folders of streams that no signal has reached, by their settings."""
    return {}


@pytest.fixture
def ends_the_same(
    streamed: Streamed,
    spy: Spy,
    undisturbed: dict[tuple[object, ...], Path],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> Callable[..., None]:
    """Streams with signals, then goes on; it must end in the bytes of an undisturbed stream."""

    def whole_of(words: tuple[str, ...]) -> Path:
        key = (spy.kind.tested_after_task_end, *words)
        if key not in undisturbed:
            folder = tmp_path_factory.mktemp("undisturbed") / "whole"
            undisturbed[key] = streamed(*WORDS, *words, "--output", str(folder)).folder
        return undisturbed[key]

    def check(
        at: tuple[str, int],
        *signals: signal.Signals,
        words: tuple[str, ...] = (),
        at_once: bool = False,
    ) -> None:
        whole = whole_of(words)
        spy.calls = dict.fromkeys(spy.calls, 0)
        spy.at, spy.signals = at, [*signals]
        parts = tmp_path / "parts"
        with pytest.raises((KeyboardInterrupt, Terminated)) as raised:
            streamed(*WORDS, *words, "--output", str(parts))
        assert raised.value.args == (f"resume with: crumb stream --resume {parts}",)
        assert not at_once or spy.calls["save"] == spy.saved
        streamed("--resume", str(parts))
        tables = [path for path in whole.rglob("*.csv") if path.name != "hyperparams.csv"]
        assert tables
        for path in tables:
            assert (parts / path.relative_to(whole)).read_bytes() == path.read_bytes()
        for path in whole.glob("*.safetensors"):
            tensors, _ = read_tensors(path, "")
            found, _ = read_tensors(parts / path.name, "")
            assert all(torch.equal(found[name], value) for name, value in tensors.items())

    return check


def test_the_same_signal_twice(ends_the_same: Callable[..., None]):
    ends_the_same(("learn", 3), TERM, TERM)


@pytest.mark.parametrize(
    ("at", "number"), [(("learn", 6), INT), (("end_task", 2), TERM), (("save", 7), INT)], ids=str
)
def test_a_second_signal_ends_it_at_once_without_saving(
    ends_the_same: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    at: tuple[str, int],
    number: signal.Signals,
):
    """In the middle of a step: the checkpoint before it is what counts."""
    monkeypatch.setattr(interruption, "_SAME_SECONDS", -1.0)
    ends_the_same(at, number, number, words=("--checkpoint-batches", "1"), at_once=True)


def test_a_signal_in_the_second_reading_waits_for_its_end(ends_the_same: Callable[..., None]):
    ends_the_same(("end_task", 1), TERM)


def test_a_signal_between_the_tests_of_an_epoch(ends_the_same: Callable[..., None]):
    """On test images and on those held out: both are done again."""
    ends_the_same(("scores", 1), INT, words=("--select-best-epoch",))


# The tests of four tasks after two epochs and one each take 1, 1, 1, 1 and 2 batches.
@pytest.mark.parametrize(
    ("at", "number"),
    [
        (("learn", 4), TERM),
        (("end_task", 1), INT),
        (("scores", 2), TERM),
        (("end_task", 4), INT),
    ],
    ids=str,
)
@pytest.mark.parametrize("more", [(), ("--checkpoint-batches", "1"), ("--select-best-epoch",)])
def test_a_signal_around_training_at_the_end_of_a_task(
    ends_the_same: Callable[..., None],
    spy: Spy,
    monkeypatch: pytest.MonkeyPatch,
    at: tuple[str, int],
    number: signal.Signals,
    more: tuple[str, ...],
):
    """It is trained in once, and tested after it."""
    monkeypatch.setattr(spy.kind, "tested_after_task_end", True)
    ends_the_same(at, number, words=more)


def test_a_second_signal_after_training_at_the_end_of_a_task(
    ends_the_same: Callable[..., None], spy: Spy, monkeypatch: pytest.MonkeyPatch
):
    """In the test after it: nothing of it is saved."""
    monkeypatch.setattr(spy.kind, "tested_after_task_end", True)
    monkeypatch.setattr(interruption, "_SAME_SECONDS", -1.0)
    ends_the_same(("scores", 3), TERM, TERM, words=("--checkpoint-batches", "1"), at_once=True)


def test_a_signal_at_the_end_of_a_run_is_not_lost(ends_the_same: Callable[..., None]):
    # Four tasks, a checkpoint after each.
    ends_the_same(("save", 4), INT, words=("--runs", "2"))


def test_a_signal_that_is_ignored_stays_ignored(streamed: Streamed, spy: Spy):
    spy.at, spy.signals = ("learn", 2), [signal.SIGINT]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert len(streamed(*WORDS).finished()) == 1
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert spy.at is None
