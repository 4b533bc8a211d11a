"""What every indexed data set must go through: stats, file lists, a stream of two tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crumb.cli.main import main


def command(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command prints; it must succeed."""
    capsys.readouterr()
    code = main([*map(str, words)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def follow(
    capsys: pytest.CaptureFixture[str], folder: Path, network_words: list[str], classes: list[str]
) -> str:
    """Take two classes of a data set through every command; the balance check is returned."""
    stats = command(capsys, "data", "stats", folder)
    lists = folder / "lists"
    command(
        capsys, "tasks", folder, "--runs", 1, "--classes", *classes, "--classes-per-task", 1,
        "--output", lists,
    )  # fmt: skip
    run = lists / "class_instance" / "run0" / "stream"
    assert {path.name for path in run.iterdir()} == {
        "train_task_00_filelist.txt", "train_task_01_filelist.txt", "test_filelist.txt",
        "train_all.txt",
    }  # fmt: skip
    results = folder / "results"
    command(
        capsys, "stream", folder, *network_words, "--method", "finetune", "--epochs-first-task", 1,
        "--classes", *classes, "--classes-per-task", 1, "--runs", 1, "--feature-cache", "memory",
        "--output", results,
    )  # fmt: skip
    assert json.loads((results / "metrics.json").read_text())
    return stats
