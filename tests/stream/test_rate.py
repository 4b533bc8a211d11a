"""A stream that does not wait: which frames are lost, and that they are the same again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crumb.cli.main import main
from crumb.errors import InputError
from crumb.methods.registry import methods
from crumb.stream import rate
from crumb.stream.config import StreamConfig
from crumb.stream.rate import lost_frames, seconds_per_batch
from crumb.stream.results import Results

STRICT = ("--mode", "strict", "--no-save-model", "--top-k", "1", "--no-mem-accuracy")
Streamed = Callable[..., Results]


@pytest.mark.parametrize(
    ("rate", "seconds", "kept"),
    [
        # Batches of three, ten frames.
        (1.0, 0.0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        # Busy until the moment at which the next frame arrives.
        (1.0, 1.0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (1.0, 1.5, [0, 1, 2, 4, 5, 6, 8, 9]),
        (2.0, 1.0, [0, 1, 2, 4, 5, 6, 8, 9]),
        (1.0, 2.5, [0, 1, 2, 5, 6, 7]),
        (10.0, 9.0, [0, 1, 2]),
        # The number of lost frames has no end.
        (1e300, 9.0, [0, 1, 2]),
        (1e308, 9e9, [0, 1, 2]),
    ],
)
def test_frames_that_are_kept_worked_by_hand(rate: float, seconds: float, kept: list[int]):
    assert np.flatnonzero(~lost_frames(10, rate, seconds, 3)).tolist() == kept


@given(st.integers(0, 60), st.integers(1, 7), st.integers(0, 40))
def test_no_frame_arrives_while_a_batch_is_learned(count: int, batch_size: int, busy: int):
    """Simulated frame by frame, in quarters of the time between two frames."""
    free, waiting, expected = 0.0, 0, []
    for number in range(count):
        if arrives := number >= free:
            waiting += 1
        if waiting == batch_size:
            free, waiting = number + busy / 4, 0
        expected.append(not arrives)
    assert lost_frames(count, 4.0, busy / 16, batch_size).tolist() == expected


def test_a_run_that_loses_frames(streamed: Streamed):
    """Batches of 12: with twelve frames of work after each, of every 23 frames 12 are kept."""
    flags = ("--stream-rate", "10", "--batch-seconds", "1.2", *STRICT)
    (record,) = streamed("--method", "finetune", *flags, epochs=None).finished()
    (whole,) = streamed("--method", "finetune", *STRICT, epochs=None).finished()
    assert (whole.images_lost, whole.batch_seconds) == (None, None)
    lost = [int(lost_frames(whole.images // 2, 10, 1.2, 12).sum()) for _ in range(2)]
    assert record.images_lost == sum(lost) > 0
    assert record.images == record.distinct_images == whole.images - sum(lost)
    assert record.batch_seconds == 1.2


@pytest.mark.parametrize(
    "method",
    [
        name
        for name, kind in methods().items()
        if kind.strict() and name != "offline" and not kind.needs_attention
    ],
)
def test_a_class_whose_frames_are_all_lost_is_tested(streamed: Streamed, method: str):
    """Each task begins with a clip of one class, of which only the first batch is seen."""
    flags = ("--stream-rate", "1", "--batch-seconds", "1000", "--batch-size", "2", *STRICT)
    (record,) = streamed("--method", method, *flags, epochs=None).finished()
    assert record.images == 4
    accuracies = record.class_accuracy()
    assert accuracies is not None
    assert len(accuracies) == 4
    assert all(0 <= (row[-1] or 0) <= 100 for row in accuracies)


def test_the_seconds_of_a_batch_are_measured_once(streamed: Streamed, monkeypatch):
    flags = ("--method", "er", "--memory-size", "8", "--stream-rate", "500", *STRICT)
    results = streamed(*flags, epochs=None)
    file = results.folder / "timing.json"
    seconds = json.loads(file.read_text())["seconds_per_batch"]
    assert 0 < seconds < 5
    (first,) = results.finished()
    assert first.batch_seconds == seconds
    # A second run loses frames by the same time, and so does a repetition elsewhere.
    monkeypatch.setattr(rate, "learn_epoch", None)
    again = streamed("--resume", str(results.folder), "--runs", "2", epochs=None)
    assert [record.batch_seconds for record in again.finished()] == [seconds] * 2
    (repeated,) = streamed(*flags, "--batch-seconds", str(seconds), epochs=None).finished()
    assert repeated.scores == first.scores
    assert repeated.images_lost == first.images_lost
    file.unlink()
    with pytest.raises(InputError, match="is missing, so further runs would lose other frames"):
        streamed("--resume", str(results.folder), "--runs", "3", epochs=None)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"format": "crumb-timing", "version": 1, "seconds_per_batch": "1"}']
)
def test_a_damaged_timing(tmp_path: Path, text: str):
    (tmp_path / "timing.json").write_text(text)
    with pytest.raises(InputError, match=r"timing.json: .*; restore it"):
        seconds_per_batch(tmp_path, begun=True, measure=lambda: 1.0)


def test_a_run_that_fails_leaves_nothing(streamed: Streamed, tmp_path: Path, monkeypatch):
    """The time was measured, and no run was finished."""
    monkeypatch.setattr("crumb.stream.run.run_once", lambda plan: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        streamed("--method", "finetune", "--stream-rate", "9", *STRICT, epochs=None)
    assert not [*tmp_path.rglob("timing.json")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stream_rate": 5.0}, "--stream-rate 5.0: contradicts --mode paper, which repeats"),
        ({"stream_rate": 0.0, "mode": "strict"}, "--stream-rate 0.0: is out of range"),
        ({"batch_seconds": 1.0}, "--batch-seconds 1.0: has no effect without --stream-rate"),
        ({"stream_rate": 1.0, "batch_seconds": -1.0, "mode": "strict"}, "--batch-seconds -1.0"),
    ],
    ids=str,
)
def test_rates_that_cannot_be(changes: dict, said: str):
    with pytest.raises(InputError) as refused:
        StreamConfig(Path("set"), **changes)
    assert refused.value.in_flags().startswith(said)


def test_upper_bounds_do_not_stream(words: list[str], capsys):
    flags = ["--method", "offline", "--mode", "strict", "--stream-rate", "5"]
    assert main(["stream", *words, *flags]) == 2
    assert "--mode strict: cannot be used with offline" in capsys.readouterr().err
