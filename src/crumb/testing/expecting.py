"""Assertions of the checks, with their messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crumb.methods.base import Learner


@contextmanager
def refused(pattern: str, kind: type[Exception]) -> Iterator[None]:
    """Context whose code must raise an error with a message that matches the pattern."""
    said = None
    try:
        yield
    except kind as error:
        said = str(error)
    assert said is not None, f"nothing raised {kind.__name__} that says {pattern!r}"
    assert re.search(pattern, said), f"{said[:200]!r} does not say {pattern!r}"


def assert_same(one: Learner, other: Learner, what: str = "two learners") -> None:
    """Two learners hold the same, to the bit; ``what`` says of which that was expected."""
    assert one.classes == other.classes, f"{what}: other classes"
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys(), f"{what}: {first.keys() ^ second.keys()} is in one only"
    wrong = [name for name, value in first.items() if not torch.equal(value, second[name])]
    assert not wrong, f"{what}: {wrong} differ"
