"""Figures are written whole, and read back as they were."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from crumb.errors import InputError
from crumb.reports.panels import Panel, as_svg, blank, read_panels, stored, write_panel


def a_panel() -> Panel:
    figure = blank(3, 2)
    axes = figure.subplots()
    axes.plot([1, 2], [50.0, 40.0])
    axes.set(xlabel="tasks learned", ylabel="accuracy, %")
    rows = [[1, 50.0], [2, 40.0]]
    return Panel("accuracy", "Accuracy", "Of one run, in percent.", figure, ["task", "%"], rows)


def test_what_is_written_is_read_back(tmp_path: Path):
    panel = a_panel()
    paths = write_panel(panel, tmp_path)
    assert [path.name for path in paths] == [f"accuracy.{k}" for k in ("csv", "png", "svg", "json")]
    assert read_panels(tmp_path) == [stored(panel)]
    assert [*csv.reader(paths[0].read_text().splitlines())] == [
        ["task", "%"],
        ["1", "50.0"],
        ["2", "40.0"],
    ]
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert "accuracy, %" in as_svg(panel)


def test_the_same_numbers_give_the_same_bytes():
    assert as_svg(a_panel()) == as_svg(a_panel())
    assert as_svg(a_panel()) != as_svg(replace(a_panel(), name="other"))


def test_no_folder_and_other_files(tmp_path: Path):
    assert read_panels(tmp_path / "none") == []
    (tmp_path / "metrics.json").write_text("{}")
    assert read_panels(tmp_path) == []


@pytest.mark.parametrize("missing", [".svg", ".csv"])
def test_a_part_is_missing(tmp_path: Path, missing: str):
    write_panel(a_panel(), tmp_path)
    (tmp_path / "accuracy").with_suffix(missing).unlink()
    with pytest.raises(InputError, match=f"accuracy{missing}.* make it again"):
        read_panels(tmp_path)


def test_of_another_version(tmp_path: Path):
    *_, about = write_panel(a_panel(), tmp_path)
    about.write_text(about.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match="is not a figure of format version 1"):
        read_panels(tmp_path)
