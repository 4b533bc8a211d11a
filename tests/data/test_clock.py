"""Times of frames from time stamps that restart, jump, stand or are of another order."""

from __future__ import annotations

from fractions import Fraction

import pytest

from crumb.data.clock import Clock

TENTH = Fraction(1, 10)


def times(
    stamps: list[int | None], duration: int | None = None, jumps: bool = True
) -> tuple[list[float], int]:
    """Times in tenths of a second, and the gaps that were closed."""
    clock = Clock(TENTH, jumps)
    found = [
        clock.tick(stamp, duration, stamps[place:]) / TENTH for place, stamp in enumerate(stamps, 1)
    ]
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
    assert times([7] * 50, duration=2) == ([2.0 * number for number in range(50)], 0)


@pytest.mark.parametrize("jumps", [True, False])
@pytest.mark.parametrize("step", [50, 110, 600, 36_000])
def test_a_slow_clip_is_slow(step: int, jumps: bool):
    """One frame a minute or an hour, with and without a faster part."""
    slow = [step * number for number in range(8)]
    assert times([*slow], jumps=jumps) == (slow, 0)
    mixed = [0, 2, 4, *(4 + one for one in slow[1:]), slow[-1] + 6, slow[-1] + 8]
    assert times([*mixed], jumps=jumps) == (mixed, 0)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 50])
@pytest.mark.parametrize("rise", [10, 50])
@pytest.mark.parametrize("duration", [None, 4, 10])
def test_frames_of_one_time_stamp_share_the_time_until_the_next(
    count: int, rise: int, duration: int | None
):
    """So are those of a recorder whose clock has whole seconds."""
    stamps = [rise * (number // count) for number in range(6 * count)]
    found, gaps = times([*stamps], duration)
    assert (gaps, found) == (0, pytest.approx([rise / count * n for n in range(6 * count)]))


def test_pauses_are_meant_where_clocks_do_not_jump():
    pauses = [0, 5, 10, 400, 405, 900, 905]
    assert times([*pauses], jumps=False) == (pauses, 0)
    assert times([*pauses]) == ([0, 5, 10, 15, 20, 25, 30], 2)


def test_each_of_many_pauses_shows_what_comes_after_it():
    """Pages of a recorded screen, of which two frames follow each other."""
    pages = [time + page * 7000 for page in range(4) for time in (0, 1)]
    assert times([*pages], jumps=False) == ([0, 1, 10, 11, 20, 21, 30, 31], 3)


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
