"""Search the switches of CRUMB 2 on a data set for tuning, and log every trial.

    python tools/search_crumb2.py DATASET docs/crumb2-search.csv [--runs 2] [--only PART]

Each row of the CSV file is one trial: the settings that differ from the defaults, the budget, and
the final accuracy over runs. Trials that are in the file are not repeated. Trials of the head
stream the last feature maps of the frozen network in a single pass. Trials of the tail stream two
classes per task.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crumb

BUDGETS = (20_000, 64_000, 250_000, 2_250_000)
HEADS: dict[str, dict[str, Any]] = {
    "slda": {"rank": 0},
    "rank 2": {"rank": 2},
    "rank 4": {"rank": 4},
    "rank 8": {"rank": 8},
    "rank 16": {"rank": 16},
    "rank by budget": {},
    "class share 0.3": {"class_share": 0.3},
    "class share 0.7": {"class_share": 0.7},
    "prior 0": {"prior_frames": 0},
    "prior 1000": {"prior_frames": 1000},
    "shrinkage 0.02": {"shrinkage": 0.02},
    "shrinkage 0.1": {"shrinkage": 0.1},
    "no transform": {"transform": "none"},
    "no crumbs": {"crumbs": 0},
}
TAILS: dict[str, dict[str, Any]] = {
    "frozen": {"tail": "frozen"},
    "tuned": {},
    "tuned, 2 epochs": {"tuning_epochs": 2},
    "tuned, 10 epochs": {"tuning_epochs": 10},
    "tuned, lr 0.002": {"lr": 0.002},
}
FIELDS: tuple[str, ...] = (
    "part",
    "trial",
    "settings",
    "budget_bytes",
    "runs",
    "final_accuracy",
    "deviation",
)


def trials(part: str | None) -> Iterator[dict[str, Any]]:
    """All trials, as rows without results."""
    for budget in BUDGETS:
        for name, settings in HEADS.items():
            yield {"part": "head", "trial": name, "settings": settings, "budget_bytes": budget}
    for budget in BUDGETS[:3]:
        for name, settings in TAILS.items():
            yield {"part": "tail", "trial": name, "settings": settings, "budget_bytes": budget}


def measure(dataset: Path, row: dict[str, Any], runs: int) -> list[float]:
    """The final accuracy of each run, in percent."""
    common: dict[str, Any] = {"runs": runs, "mem_accuracy": False, "feature_cache": "disk"}
    if row["part"] == "head":
        stream = {"mode": "strict", "cut": "global_pool", "classes_per_task": 100}
    else:
        stream = {"mode": "paper", "epochs_first_task": 1}
    with tempfile.TemporaryDirectory() as folder:
        results = crumb.stream(
            dataset,
            "crumb2",
            output=Path(folder) / "out",
            budget_bytes=row["budget_bytes"],
            **common,
            **stream,
            **row["settings"],
        )
        return [record.curve()[-1] for record in results.finished()]


def main() -> None:
    """Do the trials that are missing in the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--only", choices=("head", "tail"))
    asked = parser.parse_args()
    done = set()
    if asked.log.exists():
        with asked.log.open(newline="") as file:
            done = {
                (row["part"], row["trial"], row["budget_bytes"]) for row in csv.DictReader(file)
            }
    with asked.log.open("a", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if not done:
            writer.writeheader()
        for row in trials(asked.only):
            if asked.only not in (None, row["part"]):
                continue
            if (row["part"], row["trial"], str(row["budget_bytes"])) in done:
                continue
            found = measure(asked.dataset, row, asked.runs)
            deviation = statistics.stdev(found) if len(found) > 1 else 0.0
            row |= {"settings": json.dumps(row["settings"]), "runs": len(found)}
            row |= {
                "final_accuracy": f"{statistics.mean(found):.2f}",
                "deviation": f"{deviation:.2f}",
            }
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
