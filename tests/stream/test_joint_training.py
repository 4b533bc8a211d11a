"""Joint training: how often it reads, and when it has converged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods.offline import Offline, OfflineConfig
from crumb.stream.results import Results

Streamed = Callable[..., Results]
# Two tasks, of 42 images and of 84.
WORDS = ("--method", "offline", "--no-mem-accuracy")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), [5, 5]),
        (("--joint-epochs", "1"), [2, 1]),
        (("--epochs", "7"), [5, 7]),
        (("--joint-epochs", "3", "--convergence", "0"), [3, 3]),
    ],
)
def test_each_task_is_read_five_times_at_least(
    streamed: Streamed, flags: tuple[str, ...], expected: list[int], monkeypatch: Any
):
    # Losses that fall by a tenth from step to step.
    count = 0

    def learn(self: Offline, batch: Batch) -> dict[str, Tensor]:
        nonlocal count
        count += 1
        loss = torch.tensor(0.9**count)
        if self.config.convergence is not None:
            self._follow(batch, loss)
        return {"direct": loss}

    monkeypatch.setattr(Offline, "learn", learn)
    (record,) = streamed(*WORDS, *flags).finished()
    assert [len(scores) for scores in record.scores] == expected
    assert record.reported == [number - 1 for number in expected]
    assert record.images == expected[0] * 42 + expected[1] * 84


def test_until_the_loss_falls_no_more(streamed: Streamed, monkeypatch: pytest.MonkeyPatch):
    """Mean losses of the readings by hand; a stop leaves nothing behind in the next task."""
    means = iter([8.0, 4.0, 3.9, 2.0, 1.0, 0.5, 0.6])
    mean, last = 0.0, -1

    def step(self: Offline, batch: Batch) -> dict[str, Tensor]:
        nonlocal mean, last
        reading = (batch.first_pass, self._read // max(1, self._frames))
        if batch.first_pass and (last != 0 or self._read > self._frames):
            mean, last = next(means), 0
        elif not batch.first_pass and reading[1] != last:
            mean, last = next(means), reading[1]
        return {"direct": torch.tensor(mean)}

    monkeypatch.setattr("crumb.methods.finetune.Finetune.learn", step)
    (record,) = streamed(*WORDS, "--joint-epochs", "50", "--convergence", "0.05").finished()
    # 4 to 3.9 is less than a twentieth; 0.6 is more than 0.5.
    assert [len(scores) for scores in record.scores] == [3, 4]
    assert record.reported == [2, 3]
    assert record.confusion is not None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"joint_epochs": 0}, "joint_epochs=0"),
        ({"convergence": 1.0}, "convergence=1.0"),
        ({"convergence": float("nan")}, "convergence=nan"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], named: str):
    with pytest.raises(InputError, match=named):
        OfflineConfig(**settings)
