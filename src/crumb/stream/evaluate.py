"""Evaluate a learner: all accuracies from one pass over the test images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crumb.methods.base import Learner
from crumb.stream.feed import Reading
from crumb.stream.record import PATHS, Score


def evaluate(
    learner: Learner,
    test: Reading,
    groups: Sequence[Sequence[int]],
    top_k: Sequence[int],
    mem: bool = True,
) -> tuple[Score, list[list[int]]]:
    """Test a learner on the classes seen so far.

    Args:
        learner: the learner to test. It is not changed.
        test: the test images of these classes.
        groups: labels introduced by each task so far ([] for a task without new classes).
        top_k: the k of top-k accuracy; capped at the number of classes seen.
        mem: also test on reconstructed features, which takes a second pass through the tail.

    Returns:
        the score, and the confusions of the direct path, top-1, as in :class:`RunRecord`.
    """
    paths = PATHS if mem else PATHS[:1]
    hits, predicted = _hits(learner, test, top_k, paths)
    labels = test.frames.labels
    current = groups[-1] or sorted(set(labels.tolist()))
    masks = {
        "all": np.ones(len(labels), bool),
        "1st": np.isin(labels, groups[0]),
        "current_task": np.isin(labels, current),
    }
    accuracy = {
        (k, name, path): _percent(hits[k, path][mask])
        for k in top_k
        for name, mask in masks.items()
        for path in paths
    }
    direct = hits[1, "direct"]
    by_task = [_percent(direct[np.isin(labels, group)]) if group else None for group in groups]
    by_class = [_percent(direct[labels == label]) for label in range(sum(map(len, groups)))]
    return Score(accuracy, by_task, by_class), _confusions(labels, predicted)


def _confusions(labels: np.ndarray, predicted: np.ndarray) -> list[list[int]]:
    """(label, predicted label, number of images) of each pair that occurs, in ascending order."""
    pairs, counts = np.unique(np.stack([labels, predicted], 1), axis=0, return_counts=True)
    return np.column_stack([pairs, counts]).tolist()


def _percent(hits: np.ndarray) -> float:
    return 100.0 * int(hits.sum()) / len(hits) if len(hits) else float("nan")


def _hits(
    learner: Learner, test: Reading, top_k: Sequence[int], paths: Sequence[str]
) -> tuple[dict[tuple[int, str], np.ndarray], np.ndarray]:
    """Whether the true class is among the k best: bool (images,), by (k, path).

    Also returns the top-1 label on the direct path, int64 (images,).
    """
    parts: dict[tuple[int, str], list[Tensor]] = {(k, path): [] for k in top_k for path in paths}
    predicted: list[Tensor] = []
    with learner.evaluation():
        for batch in test:
            best = {"direct": _ranking(learner.scores(batch.features), top_k)}
            if "mem" in paths:
                mem = learner.mem_scores(batch.features)
                best["mem"] = best["direct"] if mem is None else _ranking(mem, top_k)
            predicted.append(best["direct"][:, 0])
            labels = batch.labels[:, None].to(best["direct"].device, non_blocking=True)
            for k, path in parts:
                parts[k, path].append((best[path][:, :k] == labels).any(1))
    hits = {key: torch.cat(found).cpu().numpy() for key, found in parts.items()}
    return hits, torch.cat(predicted).cpu().numpy()


def _ranking(logits: Tensor, top_k: Sequence[int]) -> Tensor:
    """The top labels of each image, best first. Ties go to the lower label."""
    count = min(max(top_k), logits.shape[1])
    return logits.sort(dim=1, descending=True, stable=True).indices[:, :count]
