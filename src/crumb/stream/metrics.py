"""Summary metrics of a class-incremental run."""

from __future__ import annotations

import math
from collections.abc import Sequence

Matrix = Sequence[Sequence[float | None]]
"""Row t, column j: accuracy in percent after task t on the classes introduced by task j (j <=
t)."""


def forgetting(matrix: Matrix) -> float | None:
    """Mean drop from the best to the final accuracy on each task's classes, in percentage points.

    Chaudhry et al., "Riemannian Walk", ECCV 2018, equation 3: the mean is over all tasks but the
    last, and the best over the tests before the last task. None if there is only one task.
    """
    drops = []
    for task in _earlier_tasks(matrix):
        best = max(row[task] or 0.0 for row in matrix[task:-1])
        drops.append(best - (matrix[-1][task] or 0.0))
    return sum(drops) / len(drops) if drops else None


def backward_transfer(matrix: Matrix) -> float | None:
    """Backward transfer (BWT): mean change of the accuracy on a task's classes since that task, in
    percentage points.

    Lopez-Paz and Ranzato, "Gradient Episodic Memory", NeurIPS 2017, equation 3. None if there is
    only one task.
    """
    changes = [
        (matrix[-1][task] or 0.0) - (matrix[task][task] or 0.0) for task in _earlier_tasks(matrix)
    ]
    return sum(changes) / len(changes) if changes else None


def _earlier_tasks(matrix: Matrix) -> list[int]:
    """Tasks before the last one that introduced classes."""
    return [task for task in range(len(matrix) - 1) if matrix[task][task] is not None]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (None for a single value)."""
    # Exact summation, so that the order of runs does not matter.
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
