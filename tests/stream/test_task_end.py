"""Learners that train when a task is over: before its last test, and after the last task too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.errors import InputError
from crumb.methods.base import Learner
from crumb.methods.finetune import Finetune
from crumb.methods.persistence import load
from crumb.methods.registry import methods
from crumb.stream.results import Results

Streamed = Callable[..., Results]


def bias_of(learner: Learner) -> Tensor:
    """Of the last layer."""
    assert learner.network.head.bias is not None
    return learner.network.head.bias


class Spy(Finetune):
    """Notes what it is called for; its logits say how often it was told that a task was over."""

    name = "spy"
    needs_task_boundaries = True
    events: list[str]
    checked: list[int]
    biases: list[float]

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        self.events.append("learn")
        return super().learn(batch)

    def end_task(self, batches: Batches) -> None:
        assert self.network.training
        images = sum(len(batch) for batch in batches)
        assert not any(batch.first_pass for batch in batches)
        self.biases.append(bias_of(self)[0].item())
        with torch.no_grad():
            bias_of(self).add_(1)
        self.events.append(f"end of {images}")

    def scores(self, features: Tensor) -> Tensor:
        if self.events[-1] != "test":
            self.events.append("test")
        return super().scores(features)

    def check_room(self, classes: int) -> None:
        self.checked.append(classes)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    monkeypatch.setitem(methods(), "spy", Spy)
    for name in ("events", "checked", "biases"):
        monkeypatch.setattr(Spy, name, [], raising=False)
    return Spy


# Two tasks of 42 images in batches of 12, read twice and once.
READING = ["learn"] * 4


def test_it_is_told_before_the_last_test_of_every_task(
    streamed: Streamed, spy: type[Spy], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spy, "learns_at_task_end", True)
    (record,) = streamed("--method", "spy", "--no-mem-accuracy").finished()
    first = [*READING, "test", *READING, "end of 42", "test"]
    assert spy.events == [*first, *READING, "end of 42", "test"]
    assert [len(scores) for scores in record.scores] == [2, 1]
    assert record.reported == [1, 0]
    # Room for the classes of the last task is needed, too.
    assert spy.checked == [4]


def test_others_are_told_after_it_and_never_that_the_stream_is_over(
    streamed: Streamed, spy: type[Spy]
):
    streamed("--method", "spy", "--no-mem-accuracy")
    first = [*READING, "test", *READING, "test", "end of 42"]
    assert spy.events == [*first, *READING, "test"]
    assert spy.checked == [2]


def test_it_trains_on_from_the_best_epoch_and_is_reported_after_it(
    streamed: Streamed, spy: type[Spy], monkeypatch: pytest.MonkeyPatch
):
    """Held-out images choose among the epochs, before the training at the end of the task."""
    monkeypatch.setattr(spy, "learns_at_task_end", True)
    kept: list[float] = []

    def restored(learner: Learner, snapshot: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in learner.parameters().items():
                value.copy_(snapshot[name])
        kept.append(bias_of(learner)[0].item())

    monkeypatch.setattr("crumb.stream.loop._restore", restored)
    words = ["--method", "spy", "--no-mem-accuracy", "--select-best-epoch", "--epochs", "3"]
    (record,) = streamed(*words, "--validation-share", "0.3").finished()
    assert spy.biases == kept
    assert len(kept) == 2
    assert [len(scores) for scores in record.scores] == [2, 3]
    assert record.reported == [1, 2]
    # The last epoch is scored on held-out images before, on test images after.
    told = [event.partition(" ")[0] for event in spy.events if event != "learn"]
    last = ["test", "end", "test"]
    assert told == ["test", *last, "test", "test", *last]


def test_weights_that_are_no_longer_finite_are_noticed_before_the_test(
    streamed: Streamed, spy: type[Spy], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spy, "learns_at_task_end", True)

    def end_task(self: Spy, batches: Batches) -> None:
        with torch.no_grad():
            bias_of(self).fill_(float("inf"))
        self.events.append("end")

    monkeypatch.setattr(spy, "end_task", end_task)
    with pytest.raises(InputError, match="no longer finite"):
        streamed("--method", "spy", "--epochs-first-task", "1")
    assert spy.events == [*READING, "end"]


def test_rainbow_streams(streamed: Streamed):
    words = ["--method", "rainbow", "--memory-size", "10", "--save-model"]
    results = streamed(*words, "--memory-only-epochs", "20")
    (record,) = results.finished()
    assert record.replay_bytes == 10 * 3 * 160 * 160
    # The memory holds the classes of the last task as well.
    learner = load(results.folder / "learner_run0.safetensors")
    assert set(learner.exemplars.memory.counts) == {0, 1, 2, 3}  # type: ignore[attr-defined]
