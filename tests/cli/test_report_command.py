"""``crumb report`` on real runs: a page, its figures, and nothing of the user's written over."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from crumb.cli.main import main
from crumb.cli.stream import settings
from crumb.errors import InputError
from crumb.features.features import FeatureStore
from crumb.files import read_toml
from crumb.reports.command import command_of
from crumb.reports.frames import sample_frames
from crumb.reports.reader import gather
from crumb.stream.run import stream


@pytest.fixture(scope="module")
def made(words: list[str], stores: dict[str, FeatureStore], tmp_path_factory) -> Path:
    """Results of two methods over the same two runs."""
    root = tmp_path_factory.mktemp("reported")
    own = ["--memory-size", "8", "--mode", "strict", "--top-k", "1"]
    for number, more in enumerate((["--method", "finetune", "--mode", "strict"], own), 1):
        output = ["--runs", "2", "--output", str(root / f"results{number}")]
        stream(*settings([*words, *more, *output]), stores)
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged or written beside."""
    return shutil.copytree(made, tmp_path / "made")


def report(*words: object) -> int:
    return main(["report", *map(str, words)])


def test_a_page_and_its_figures(folder: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report(folder) == 0
    printed = capsys.readouterr().out
    assert "report: report.html\nfigures: report_figures (7, each as PNG, SVG and CSV)" in printed
    html = (tmp_path / "report.html").read_text()
    assert html.count("data:image/jpeg;base64,") == 2 * 6
    assert "paired permutation p = " in html
    kinds = {path.suffix for path in (tmp_path / "report_figures").iterdir()}
    assert kinds == {".png", ".svg", ".csv", ".json"}
    figures = {path: path.read_bytes() for path in (tmp_path / "report_figures").iterdir()}
    assert report(folder) == 0
    assert (tmp_path / "report.html").read_text() == html
    assert {path: path.read_bytes() for path in figures} == figures


def plain(value: Any) -> Any:
    """As TOML has it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def test_its_commands_have_the_same_settings(folder: Path):
    """Parsed again, they are those that the results were made with."""
    for result in gather([folder]).results:
        _, command, *words = shlex.split(command_of(result))
        assert command == "stream"
        assert result.folder is not None
        made = read_toml(result.folder / "config.toml", "")
        for section, part in zip(("stream", "network", "method"), settings(words), strict=True):
            again, first = plain(asdict(part)), made[section]
            changed = {"output", "resume"} if section == "stream" else set()
            assert {k: v for k, v in again.items() if k not in changed} == {
                k: v for k, v in first.items() if k not in changed
            }


def test_other_frames_than_those_streamed_are_not_shown(folder: Path):
    one, *_ = gather([folder]).results
    shown = sample_frames(one)
    assert [task.task for task in shown] == [1, 2]
    assert {name for task in shown for name, _ in task.frames} == {*one.records[0].classes}
    changed = {**one.settings, "files.index": "0" * 64}
    with pytest.raises(InputError, match="has changed since the run"):
        sample_frames(replace(one, settings=changed))


@pytest.fixture
def report_words(folder: Path, output: Path) -> list[object]:
    return [folder, "--output", output / "report.html"]


def test_nothing_of_the_user_is_written_over(report_words, output: Path, refused):
    output.mkdir()
    (output / "report.html").write_text("<!doctype html>\nmine")
    refused(
        "report", *report_words, names=("report.html", "does not belong to a report", "move it")
    )
    (output / "report.html").unlink()
    picture = output / "report_figures/accuracy_over_tasks.png"
    picture.parent.mkdir()
    picture.write_bytes(b"mine")
    refused(
        "report", *report_words, names=("accuracy_over_tasks.png", "is not a figure", "--figures")
    )
    picture.with_suffix(".json").write_text('{"mine": 1}')
    refused(
        "report", *report_words, names=("accuracy_over_tasks.json", "does not belong to a figure")
    )
    assert report(*report_words, "--figures", output / "others") == 0


def test_the_output_is_a_folder(folder: Path, output: Path, refused):
    output.mkdir()
    refused("report", folder, "-o", output, names=("--output", "is a folder", "give a file name"))


def test_words_that_do_not_fit(folder: Path, tmp_path: Path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    refused("report", names=("outputs", "is not a folder", "give the folder"))
    refused("report", tmp_path / "none", names=("none", "is not a folder"))
    refused("report", tmp_path / "file", names=("file", "is not a folder"))
    refused("report", folder / "results1", tmp_path / "empty", names=("empty", "holds no results"))
    refused("report", folder, "--baseline", "er", names=("--baseline er", "results1, results2"))


def test_damaged_results(folder: Path, report_words, refused):
    run = folder / "results1/runs/run0.json"
    whole = run.read_text()
    run.write_text(whole[:100])
    refused("report", *report_words, names=("run0.json", "is not valid JSON"))
    run.write_text(whole)
    (folder / "results2/config.toml").write_text("[")
    refused("report", *report_words, names=("config.toml", "is not valid TOML"))


def test_tables_as_latex(folder: Path, report_words, output: Path, refused, capsys):
    output.mkdir()
    tables = output / "report.tex"
    tables.write_text("mine")
    names = ("report.tex", "does not belong to a report", "move it")
    refused("report", *report_words, "--latex", names=names)
    tables.unlink()
    same = ("--output", "is also the name of the LaTeX file", "ends in .html")
    refused("report", folder, "--output", tables, "--latex", names=same)
    assert report(*report_words, "--latex") == 0
    assert f"tables: {tables}" in capsys.readouterr().out
    text = tables.read_text()
    assert text.startswith("% written by crumb report; the tables need \\usepackage{booktabs}\n")
    begins, rows = (re.findall(one, text, re.M) for one in (r"^\\begin{tabular}", r"^results1 &"))
    # Results and comparisons; the baseline is not compared with itself.
    assert (len(begins), len(rows)) == (2, 2)
    assert r"final accuracy, \% &" in text
    assert all(line.startswith("%") for line in text.splitlines() if "Holm's" in line)
