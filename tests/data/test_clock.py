"""Times of frames from time stamps that restart, jump, stand or are of another order."""

from __future__ import annotations

from fractions import Fraction

import pytest

from crumb.data.clock import Clock

TENTH = Fraction(1, 10)


def times(stamps: list[int | None], duration: int | None = None) -> tuple[list[float], int]:
    """Times in tenths of a second, and the gaps that were closed."""
    clock = Clock(TENTH)
    found = [clock.tick(stamp, duration) / TENTH for stamp in stamps]
    return [float(time) for time in found], clock.gaps


@pytest.mark.parametrize(
    ("stamps", "expected", "gaps"),
    [
        ([50, 52, 54, 56], [0, 2, 4, 6], 0),
        # Ten seconds are waited for, a tenth more are a gap.
        ([0, 2, 102, 104], [0, 2, 102, 104], 0),
        ([0, 2, 103, 105], [0, 2, 4, 6], 1),
        # A second clip, which begins anew, and a third.
        ([0, 2, 4, 0, 2, 4, 0, 2], [0, 2, 4, 6, 8, 10, 12, 14], 2),
        ([0, 2, 4, 9000, 9002, 6, 8], [0, 2, 4, 6, 8, 10, 12], 2),
        # One that is late by a frame catches up.
        ([0, 2, 4, 2, 4, 10, 12], [0, 2, 4, 6, 8, 10, 12], 0),
        ([0, 2, 4, 4, 8, 10], [0, 2, 4, 6, 8, 10], 0),
        # None at all, or only now and then.
        ([None, None, None], [0, 2, 4], 0),
        ([0, None, None, 6, None], [0, 2, 4, 6, 8], 0),
        ([None, None, 70, 72], [0, 2, 4, 6], 0),
    ],
)
def test_times(stamps: list[int | None], expected: list[float], gaps: int):
    assert times(stamps, duration=2) == (expected, gaps)


def test_time_stamps_that_stand_still_lose_no_frame():
    found, _ = times([7] * 50, duration=2)
    assert found == [2.0 * number for number in range(50)]


def test_without_durations_the_last_step_is_repeated():
    assert times([0, 5, 10, 0, 5])[0] == [0, 5, 10, 15, 20]


def test_without_anything_there_are_25_frames_a_second():
    assert times([None] * 3)[0] == [0, 0.4, 0.8]


def test_the_end_is_one_step_after_the_last_frame():
    clock = Clock(TENTH)
    assert clock.end() == 0
    clock.tick(0, 2)
    assert clock.end() == Fraction(2, 10)
    clock.tick(5, 2)
    assert clock.end() == 1
