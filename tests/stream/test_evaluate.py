"""Testing a learner: held against plain loops; one pass over the images."""

from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crumb.data.protocol import Frames
from crumb.stream.evaluate import evaluate
from crumb.stream.feed import Reading
from crumb.stream.record import PATHS, TESTS


class Fixed:
    """Learner and store in one: image i has the logits direct[i] and mem[i]."""

    def __init__(self, direct: list[list[float]], mem: list[list[float]] | None = None) -> None:
        self.direct = torch.tensor(direct, dtype=torch.float32)
        self.mem = self.direct if mem is None else torch.tensor(mem, dtype=torch.float32)
        self.passes: list[int] = []
        self.evaluating = False

    def request(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        return paths

    def finish(self, request: tuple[str, ...]) -> Tensor:
        return torch.tensor([int(path) for path in request])

    @contextmanager
    def evaluation(self):
        self.evaluating = True
        yield
        self.evaluating = False

    def scores(self, features: Tensor) -> Tensor:
        assert self.evaluating
        self.passes.extend(features.tolist())
        return self.direct[features]

    def mem_scores(self, features: Tensor) -> Tensor | None:
        assert self.evaluating
        return None if self.mem is self.direct else self.mem[features]


def score(fixed: Any, labels: list[int], groups: list[list[int]], top_k=(1, 5), batch_size=4):
    frames = Frames(tuple(map(str, range(len(labels)))), np.array(labels, dtype=np.int64))
    return evaluate(fixed, Reading(frames, fixed, batch_size), groups, top_k)[0]


def test_masks_of_the_three_tests():
    # Right on images 0, 2 and 5.
    fixed = Fixed([[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]])
    result = score(fixed, [0, 0, 1, 1, 2, 2], [[0], [1], [2]], (1,))
    assert result.accuracy[1, "all", "direct"] == 50
    assert result.accuracy[1, "1st", "direct"] == 50
    assert result.accuracy[1, "current_task", "direct"] == 50
    assert result.by_task == [50, 50, 50]
    result = score(fixed, [0, 0, 1, 1, 2, 2], [[0, 1], [2]], (1,))
    assert result.by_task == [50, 50]
    result = score(fixed, [0, 2, 1, 1, 1, 2], [[0], [1, 2]], (1,))
    assert result.accuracy[1, "1st", "direct"] == 100
    assert result.accuracy[1, "current_task", "direct"] == 40


def test_a_task_without_new_classes_is_tested_on_all():
    fixed = Fixed([[1, 0], [1, 0], [1, 0], [0, 1]])
    result = score(fixed, [0, 1, 0, 1], [[0, 1], []], (1,))
    assert result.accuracy[1, "current_task", "direct"] == 75
    assert result.by_task == [75, None]


def test_equal_logits_go_to_the_lowest_label():
    fixed = Fixed([[2, 2, 2]] * 3)
    result = score(fixed, [0, 1, 2], [[0, 1, 2]], (1, 2))
    assert result.accuracy[1, "all", "direct"] == 100 / 3
    assert result.accuracy[2, "all", "direct"] == 200 / 3


def test_top_k_is_capped_at_the_classes_seen():
    fixed = Fixed([[3, 2, 1]] * 3)
    result = score(fixed, [0, 1, 2], [[0, 1, 2]], (1, 5))
    assert result.accuracy[5, "all", "direct"] == 100


def test_the_memory_path_has_its_own_accuracy():
    fixed = Fixed([[1, 0], [1, 0]], [[0, 1], [0, 1]])
    result = score(fixed, [0, 0], [[0, 1]], (1,))
    assert result.accuracy[1, "all", "direct"] == 100
    assert result.accuracy[1, "all", "mem"] == 0
    assert result.by_task == [100]


def test_one_pass_gives_everything():
    fixed = Fixed([[1, 0]] * 10)
    score(fixed, [0, 1] * 5, [[0], [1]], (1, 2, 5), batch_size=3)
    assert fixed.passes == list(range(10))


@st.composite
def cases(draw: st.DrawFn):
    classes = draw(st.integers(1, 6))
    # Few values, so that there are ties.
    row = st.lists(st.integers(-2, 2), min_size=classes, max_size=classes)
    count = draw(st.integers(0, 12))
    # Every class is tested.
    labels = [*range(classes), *draw(st.lists(st.integers(0, classes - 1), max_size=count))]
    rows = st.lists(row, min_size=len(labels), max_size=len(labels))
    cuts = sorted(draw(st.sets(st.integers(1, classes - 1)))) if classes > 1 else []
    groups = [list(range(a, b)) for a, b in zip([0, *cuts], [*cuts, classes], strict=True)]
    return draw(rows), draw(rows), labels, groups, draw(st.integers(1, 9)), draw(st.integers(2, 7))


def plain(rows: list[list[int]], labels: list[int], group: list[int], k: int) -> float:
    hits = total = 0
    for row, label in zip(rows, labels, strict=True):
        if label in group:
            ranking = sorted(range(len(row)), key=lambda other: (-row[other], other))
            hits += label in ranking[:k]
            total += 1
    return 100 * hits / total


@settings(max_examples=60)
@given(cases())
def test_equals_plain_loops(case):
    direct, mem, labels, groups, batch_size, k = case
    result = score(Fixed(direct, mem), labels, groups, (1, k), batch_size)
    tested = {
        "all": [label for group in groups for label in group],
        "1st": groups[0],
        "current_task": groups[-1],
    }
    assert result.accuracy == {
        (top, test, path): plain(rows, labels, tested[test], top)
        for top in (1, k)
        for test in TESTS
        for path, rows in zip(PATHS, (direct, mem), strict=True)
    }
    assert result.by_task == [plain(direct, labels, group, 1) for group in groups]


def test_by_class_and_what_was_taken_for_what():
    # Predicted: 0, 1, 1, 1, 0.
    fixed: Any = Fixed([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    frames = Frames(tuple("01234"), np.array([0, 0, 1, 1, 2], dtype=np.int64))
    found, confusions = evaluate(fixed, Reading(frames, fixed, 2), [[0, 1], [2]], (1,))
    assert found.by_class == [50, 100, 0]
    assert confusions == [[0, 0, 1], [0, 1, 1], [1, 1, 2], [2, 0, 1]]
