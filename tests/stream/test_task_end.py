"""Learners that are tested after the end of a task, in which some of them train as well."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.data.index import Dataset
from crumb.errors import InputError
from crumb.methods.base import Learner
from crumb.methods.finetune import Finetune
from crumb.methods.persistence import load_learner as load
from crumb.methods.registry import methods
from crumb.methods.remind import Remind
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
    monkeypatch.setattr(spy, "tested_after_task_end", True)
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
    monkeypatch.setattr(spy, "tested_after_task_end", True)
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
    monkeypatch.setattr(spy, "tested_after_task_end", True)
    monkeypatch.setattr(spy, "learns_at_task_end", True)

    def end_task(self: Spy, batches: Batches) -> None:
        with torch.no_grad():
            bias_of(self).fill_(float("inf"))
        self.events.append("end")

    monkeypatch.setattr(spy, "end_task", end_task)
    with pytest.raises(InputError, match="no longer finite"):
        streamed("--method", "spy", "--epochs-first-task", "1")
    assert spy.events == [*READING, "end"]


@pytest.mark.parametrize("method", ["icarl", "aanets"])
def test_the_last_test_is_of_herded_exemplars(streamed: Streamed, method: str, dataset: Dataset):
    """As in the papers: after herding, in the last task as well."""
    words = ["--method", method, "--memory-size", "10", "--save-model"]
    results = streamed(*words)
    (record,) = results.finished()
    learner = load(results.folder / "learner_run0.safetensors")
    assert learner.exemplars.memory.counts == {0: 2, 1: 2, 2: 2, 3: 2}  # type: ignore[attr-defined]
    assert not [name for name in learner.state_dict() if name.startswith("running.")]
    shown = dataset.index[dataset.index["session"].isin(dataset.test_sessions)]
    names = [dataset.class_names[number] for number in shown["class"]]
    predicted = learner.predict([dataset.images / path for path in shown["im_path"]])
    right = sum(one == other for one, other in zip(predicted, names, strict=True))
    reported = record.scores[-1][-1].accuracy[1, "all", "direct"]
    assert reported == pytest.approx(100 * right / len(names), abs=1e-3)


def test_remind_is_tested_on_codes_from_the_first_task_on(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
):
    ready: list[bool] = []

    def scores(self: Remind, features: Tensor) -> Tensor:
        ready.append(self.quantiser.ready)
        return super(Remind, self).scores(features)

    monkeypatch.setattr(Remind, "scores", scores)
    words = ["--method", "remind", "--memory-size", "10", "--test-batch-size", "1000"]
    streamed(*words, "--pq-centroids", "4", "--images-per-step", "12", "--no-mem-accuracy")
    # Two tests in the first task, of which the last one counts; one in the second.
    assert ready == [False, True, True]


def test_rainbow_streams(streamed: Streamed):
    words = ["--method", "rainbow", "--memory-size", "10", "--save-model"]
    results = streamed(*words, "--memory-only-epochs", "20")
    (record,) = results.finished()
    assert record.replay_bytes == 10 * 3 * 160 * 160
    # The memory holds the classes of the last task as well.
    learner = load(results.folder / "learner_run0.safetensors")
    assert set(learner.exemplars.memory.counts) == {0, 1, 2, 3}  # type: ignore[attr-defined]
