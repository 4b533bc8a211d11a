"""The recorded bytes are the most that a learner held at any time of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.methods.base import BytesHeld
from crumb.methods.finetune import Finetune
from crumb.methods.registry import methods
from crumb.stream.results import Results


class Swelling(Finetune):
    """Claims to hold other bytes after each batch, and after the end of a task."""

    name = "swelling"
    needs_task_boundaries = tested_after_task_end = True
    claimed: list[BytesHeld]
    steps_so_far = 0

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        self.steps_so_far += 1
        return super().learn(batch)

    def end_task(self, batches: Batches) -> None:
        self.steps_so_far += 1

    def bytes_held(self) -> BytesHeld:
        return self.claimed[self.steps_so_far]


@pytest.mark.parametrize("place", [1, 8, 13])
def test_bytes_are_recorded_at_their_peak(
    streamed: Callable[..., Results], monkeypatch: pytest.MonkeyPatch, place: int
):
    """Two tasks of four batches, read twice and once, and their ends: 8 + 1 + 4 + 1 events."""
    monkeypatch.setitem(methods(), "swelling", Swelling)
    claimed = [BytesHeld(10, 5)] * 15
    # More exemplars alone are not more in all.
    claimed[4] = BytesHeld(13, 0)
    claimed[place + 1] = BytesHeld(7, 9)
    monkeypatch.setattr(Swelling, "claimed", claimed, raising=False)
    (record,) = streamed("--method", "swelling", "--no-mem-accuracy").finished()
    assert (record.replay_bytes, record.extra_bytes) == (7, 9)
