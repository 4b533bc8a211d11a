"""``crumb pareto`` on results made by hand."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from tests.reports.results_folders import write

from crumb.cli.main import main

THREE = range(3)


def finals(mean: float) -> dict[int, float]:
    return {run: mean + run - 1 for run in THREE}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Results within 1,100 bytes; icarl keeps more. All keep 24 bytes besides exemplars."""
    folder = tmp_path / "made"
    write(folder / "crumb", finals(70), method_budget_bytes=1100)
    write(folder / "er", finals(60), "er", replay=400, method_budget_bytes=1100)
    write(folder / "icarl", finals(80), "icarl", replay=9000, method_budget_bytes=1100)
    write(folder / "agem", finals(59), "agem", replay=400, method_budget_bytes=1100)
    write(folder / "finetune", finals(20), "finetune", replay=0)
    write(folder / "offline", finals(95), "offline", replay=0)
    return folder


def on_the_line(path: Path) -> set[str]:
    rows = csv.DictReader(path.read_text().splitlines())
    return {row["result"] for row in rows if row["on_the_line"] == "True"}


def test_the_front_leaves_out_what_is_over_budget(made: Path, tmp_path: Path, capsys):
    figures = tmp_path / "front"
    assert main(["pareto", str(made), "-o", str(figures)]) == 0
    assert {path.suffix for path in figures.iterdir()} == {".png", ".svg", ".csv", ".json"}
    assert on_the_line(figures / "accuracy_by_bytes.csv") == {"finetune", "er", "crumb"}
    # All take equally long, so only the best is on the line.
    assert on_the_line(figures / "accuracy_by_seconds.csv") == {"crumb"}
    rows = [re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    ends = {row[0]: row[-1] for row in rows}
    assert ends["crumb"] == "bytes, seconds"
    assert ends["er"] == "bytes"
    assert ends["agem"] == "-"
    assert ends["icarl"] == "over budget"
    assert ends["offline"] == "upper bound"


@pytest.mark.usefixtures("no_pictures")
def test_each_stream_has_its_own_front(made: Path, tmp_path: Path):
    others: dict[str, Any] = {"files_index": "1" * 64, "stream_dataset": "/data/photos"}
    write(made / "photos/er", finals(90), "er", **others)
    write(made / "photos/crumb", finals(80), **others)
    assert main(["pareto", str(made), "-o", str(tmp_path / "front")]) == 0
    names = {path.name for path in (tmp_path / "front").glob("*.csv")}
    fronts = {f"accuracy_by_{unit}.csv" for unit in ("bytes", "seconds")}
    assert names == {f"{name}{one}" for name in ("toys_1_", "photos_2_") for one in fronts}


def test_what_cannot_be_drawn(made: Path, output: Path, refused):
    refused("pareto", made / "none", "-o", output, names=("none", "is not a folder"))
    names = ("made/er", "has one result for each stream", "give several")
    refused("pareto", made / "er", "-o", output, names=names)
    output.touch()
    refused("pareto", made, "-o", output, names=("--output", "is a file"))
    output.unlink()
    output.mkdir()
    (output / "accuracy_by_bytes.png").write_bytes(b"mine")
    refused(
        "pareto", made, "-o", output, names=("accuracy_by_bytes.png", "not a figure", "--output")
    )
