"""What long work prints: nothing for short loops, lines where there is no terminal."""

from __future__ import annotations

import re

import pytest

from crumb import progress
from crumb.progress import RunProgress, bar


def test_a_run_prints_a_line_at_the_start_and_one_after_each_test(capsys: pytest.CaptureFixture):
    with RunProgress("er run 2", 12, 4) as shown:
        for _ in range(6):
            shown.update()
        shown.tested("task 1 of 2, epoch 1", 51.25)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "er run 2: 8 batches to learn"
    line = r"er run 2, task 1 of 2, epoch 1: 51.2 %, [\d.]+ batches/s, \d\d:\d\d left"
    assert re.fullmatch(line, second)


def test_a_test_before_any_batch_has_no_rate(capsys: pytest.CaptureFixture):
    with RunProgress("er run 2", 12, 12) as shown:
        shown.tested("task 2 of 2, epoch 1", 50)
    assert capsys.readouterr().err.endswith("epoch 1: 50.0 %, 0.0 batches/s\n")


def test_short_loops_print_nothing_and_long_ones_a_line(monkeypatch, capsys):
    assert [*bar(range(5), "checking", "image")] == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    with bar(None, "checking", "image", total=9) as shown:
        shown.update(3)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"checking: 3 of 9 images, .* images/s, \d\d:\d\d left", lines[1])
    assert all(line.startswith("checking: ") for line in lines)
