"""The figures that sum up a run, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crumb.stream.metrics import backward_transfer, forgetting, mean_and_deviation

# Three tasks: the first falls from 90 by way of 95 to 60, the second from 80 to 50.
THREE = [[90.0], [95.0, 80.0], [60.0, 50.0, 70.0]]


def test_forgetting_is_from_the_best_before_the_last_task():
    assert forgetting(THREE) == ((95 - 60) + (80 - 50)) / 2


def test_forgetting_is_negative_where_later_tasks_help():
    assert forgetting([[40.0], [70.0, 10.0]]) == -30


def test_backward_transfer_is_from_right_after_the_task():
    assert backward_transfer(THREE) == ((60 - 90) + (50 - 80)) / 2


@pytest.mark.parametrize("figure", [forgetting, backward_transfer])
def test_one_task_has_nothing_to_forget(figure):
    assert figure([[90.0]]) is None


def test_tasks_without_new_classes_do_not_count():
    # The second task brought no class.
    matrix = [[90.0], [80.0, None], [70.0, None, 50.0], [60.0, None, 20.0, 10.0]]
    assert forgetting(matrix) == ((90 - 60) + (50 - 20)) / 2
    assert backward_transfer(matrix) == ((60 - 90) + (20 - 50)) / 2


@given(st.lists(st.floats(0, 100), min_size=2, max_size=6))
def test_a_matrix_that_stands_still_forgets_nothing(accuracies):
    matrix = [accuracies[: task + 1] for task in range(len(accuracies))]
    assert forgetting(matrix) == 0
    assert backward_transfer(matrix) == 0


def test_mean_and_sample_deviation():
    assert mean_and_deviation([2.0, 4.0, 9.0]) == (5.0, 13**0.5)
    assert mean_and_deviation([7.0]) == (7.0, None)
