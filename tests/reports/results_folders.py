"""Results folders made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crumb.stream.record import RunRecord, Score
from crumb.stream.results import Results

CLASSES = ("<b>cup</b>", "dog & cat", "pen", "sofa")


def record(
    run: int, final: float, classes: Sequence[str] = CLASSES, tasks: int = 2, replay: int = 1000
) -> RunRecord:
    """A run that begins at 90 % and ends at ``final``, on the classes of every task."""
    accuracies = [90 + (final - 90) * task / max(tasks - 1, 1) for task in range(tasks)]
    scores = [
        [Score({(1, "all", "direct"): value}, [value] * (task + 1))]
        for task, value in enumerate(accuracies)
    ]
    return RunRecord(
        run,
        [*classes],
        scores,
        [0] * tasks,
        replay_bytes=replay,
        extra_bytes=24,
        seconds=10.0 + run,
        images=100,
    )


def settings(method: str = "crumb", **others: Any) -> dict[str, Any]:
    """Settings of a stream; ``method_budget_bytes`` sets ``method.budget_bytes``, and so on."""
    sections: dict[str, Any] = {
        "command": "stream",
        "stream": {
            "dataset": "/data/toys",
            "protocol": "class_instance",
            "mode": "paper",
            "method": method,
            "batch_size": 21,
            "epochs_first_task": 10,
            "epochs": 1,
            "first_run": 0,
            "runs": 5,
            "layout": {"classes_per_task": 2},
            "machine": {"device": "cpu"},
        },
        "network": {"backbone": "efficientnet_lite0", "cut": "blocks.6", "weights": "pretrained"},
        "method": {"lr": 0.001},
        "files": {"index": "0" * 64},
    }
    for name, value in others.items():
        section, _, key = name.partition("_")
        sections[section][key] = value
    return sections


def write(
    folder: Path,
    finals: Mapping[int, float],
    method: str = "crumb",
    classes: Sequence[str] = CLASSES,
    tasks: int = 2,
    replay: int = 1000,
    **others: Any,
) -> Path:
    """A results folder with a run for each final accuracy, by number."""
    results = Results(folder, settings(method, **others))
    with results:
        for run, final in finals.items():
            results.add(record(run, final, classes, tasks, replay))
    return folder
