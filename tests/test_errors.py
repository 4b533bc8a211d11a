"""One error, two readers: Python callers see settings as they wrote them, a shell sees flags."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from crumb.errors import DivergedError, InputError, setting


@pytest.mark.parametrize(
    ("name", "value", "python", "flag"),
    [
        ("batch_size", -1, "batch_size=-1", "--batch-size -1"),
        ("lr", 0.5, "lr=0.5", "--lr 0.5"),
        ("storage", "image", "storage='image'", "--storage image"),
        ("output", Path("a/b"), "output='a/b'", "--output a/b"),
        ("compile", True, "compile=True", "--compile"),
        ("save_tasks", False, "save_tasks=False", "--no-save-tasks"),
        ("top_k", (1, 5), "top_k=(1, 5)", "--top-k 1 5"),
        ("cut", "a\x02b\x03c\x04", "cut='a\\x02b\\x03c\\x04'", "--cut abc"),
        pytest.param("seed", 10**5000, "seed=<int>", "--seed <int>", id="too many digits to print"),
    ],
)
def test_a_setting_is_written_in_two_ways(name: str, value: object, python: str, flag: str):
    error = InputError(setting(name, value), "is wrong", "mend it")
    assert str(error) == f"{python}: is wrong; mend it"
    assert error.in_flags() == f"{flag}: is wrong; mend it"
    assert error.setting == name


def test_settings_are_written_so_in_every_part():
    error = InputError(
        "a.mp4",
        f"contradicts {setting('mode', 'strict')}",
        f"give {setting('epochs')}\n or {setting('epochs', 1)}",
    )
    assert str(error) == "a.mp4: contradicts mode='strict'; give epochs or epochs=1"
    assert error.in_flags() == "a.mp4: contradicts --mode strict; give --epochs or --epochs 1"
    assert error.setting is None


def test_an_error_made_of_the_parts_of_another_knows_both_ways():
    error = InputError(setting("lr", 2), "is wrong", "mend it")
    subject, *rest = error.parts
    assert InputError(f"arm a: {subject}", *rest).in_flags() == "arm a: --lr 2: is wrong; mend it"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.in_flags()) == (str(error), error.in_flags())
    assert again.setting == "lr"


class Rude:
    """Cannot be written."""

    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("value", [Rude(), np.zeros((500, 500)), "x" * 9999, [0] * 9999, "a\nb"])
def test_any_value_makes_one_short_line(value: object):
    line = str(DivergedError(setting("lr", value), "is wrong", "mend it"))
    assert line.startswith("lr=")
    assert len(line) < 300
    assert line.splitlines() == [line]


def test_the_problem_alone_has_no_marks():
    error = InputError("a", f"has other lists ({setting('filelists')})", "b")
    assert error.problem_in_flags() == "has other lists (--filelists)"
