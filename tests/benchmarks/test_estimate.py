from dataclasses import fields

import numpy as np
import pytest

from crumb.benchmarks.estimate import (
    Estimate,
    Units,
    Work,
    measure_units,
    original_work,
)
from crumb.data.protocol import Frames, TaskList


def frames(*labels: int) -> Frames:
    paths = tuple(f"{number}.png" for number in range(len(labels)))
    return Frames(paths, np.array(labels, dtype=np.int64))


def test_work_counted_by_hand():
    """Two tasks of two classes: 5 and 3 training images, 2 + 1 and 1 + 3 test images."""
    tasks = TaskList(
        protocol="class_instance",
        run=0,
        offline=False,
        tasks=(frames(0, 0, 1, 1, 0), frames(2, 3, 3)),
        test=frames(0, 0, 1, 2, 3, 3, 3),
        classes=("a", "b", "c", "d"),
    )
    # Training: 2 x 5 + 3. Storage, after the first task only: 5. Tests after its two epochs, on
    # all, first and current classes: 2 x (3 + 3 + 3); after the second task: 7 + 3 + 4.
    images = 13 + 5 + 18 + 14
    # Batches of 2 in the second task: (2, 3) and (3). Both lack the classes 0 and 1, and replay
    # as many exemplars as the batch has images, but one of each class at least: 2 and 2.
    replayed = 2 + 2
    steps = 2 * 3 + 2 + 2
    expected = Work(
        front=images,
        assignment=images,
        training=2 * 13 + replayed,
        testing=2 * (18 + 14),
        step=steps,
    )
    assert original_work(tasks, [2, 1], 2) == expected


def test_a_batch_that_lacks_no_stored_class_replays_nothing():
    tasks = TaskList("iid", 0, False, (frames(0, 1), frames(0, 1)), frames(0, 1), ("a", "b"))
    work = original_work(tasks, [1, 1], 2)
    assert work.step == 2
    assert work.training == 2 * 4
    # The second task brings no class: its own test is on all of its classes.
    assert work.testing == 2 * (6 + 6)


def test_seconds_are_counts_times_prices():
    work = Work(front=7, assignment=5, training=3, testing=2, step=1)
    units = Units(front=1e4, assignment=1e3, training=1e2, testing=1e1, step=1.0)
    assert Estimate(work, units).seconds == pytest.approx(75321)


def test_prices_are_measured(place):
    units = measure_units(place)
    assert all(getattr(units, field.name) > 0 for field in fields(units))
