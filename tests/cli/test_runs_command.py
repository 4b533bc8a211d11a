"""``crumb runs``: the list of a folder, two results beside each other, and what is refused."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
from tests.versions.make import record

from crumb.cli.main import main
from crumb.stream.results import Results


def write(folder: Path, finals: dict[int, float], **settings: object) -> Path:
    """Results with a final accuracy for each run."""
    stream = {"method": "er", "dataset": "/data/cups", "protocol": "iid", "first_run": 0}
    results = Results(folder, {"stream": {**stream, "runs": 3, "workers": 2} | settings})
    with results:
        for run, final in finals.items():
            one = record()
            one.run = run
            one.scores[1][0].accuracy[1, "all", "direct"] = final
            results.add(one)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two results folders: one finished, one not."""
    write(tmp_path / "all/a", {0: 50.0, 1: 52.0, 2: 54.0})
    write(tmp_path / "all/deep/b", {0: 51.0, 1: 54.0}, method="gem", workers=4)
    return tmp_path / "all"


def test_a_folder_is_listed(root: Path, capsys, tmp_path: Path):
    assert main(["runs", str(root), "--csv", str(tmp_path / "new/list.csv")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split("  ")[0] == "folder"
    assert printed[2].split()[:7] == ["a", "er", "cups", "iid", "3", "of", "3"]
    assert "52.0 ± 2.0" in printed[2]
    assert printed[3].split()[0] == "deep/b"
    assert "2 of 3  run 2 not begun" in printed[3]
    with (tmp_path / "new/list.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [(row["folder"], row["final_accuracy"]) for row in rows] == [
        ("a", "52.0"),
        ("deep/b", "52.5"),
    ]


def test_outputs_is_where_results_are(root: Path, capsys, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err.startswith("crumb: outputs: is not a folder; give the folder")
    root.rename(root.with_name("outputs"))
    assert main(["runs"]) == 0
    assert "\ndeep/b" in capsys.readouterr().out


def test_nothing_is_written_by_looking(root: Path):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert main(["runs", str(root)]) == 0
    assert main(["runs", "diff", str(root / "a"), str(root / "deep/b")]) == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_damaged_folder_comes_after_the_list_of_the_others(root: Path, capsys, tmp_path: Path):
    bad = root / "deep/b/runs/run1.json"
    bad.write_text("{}")
    assert main(["runs", str(root), "--csv", str(tmp_path / "list.csv")]) == 2
    out, err = capsys.readouterr()
    assert "\na " in out
    assert "deep/b" not in out
    assert err.startswith(f"crumb: {bad}: is not a run of format version 1; ")
    with (tmp_path / "list.csv").open() as file:
        rows = {row["folder"]: row for row in csv.DictReader(file)}
    assert rows["deep/b"]["problem"].startswith(str(bad))

    (root / "a/config.toml").unlink()
    assert main(["runs", str(root)]) == 2
    out, err = capsys.readouterr()
    assert f"\n  {root / 'a/config.toml'}: cannot be read" in out
    assert f"\n  {bad}: is not a run" in out
    assert err == (
        f"crumb: {root}: holds 2 folders that cannot be read (a, deep/b); "
        "see the remedy of each in the list\n"
    )


def test_a_folder_without_results_is_said_to_be_one(tmp_path: Path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path} holds no results\n"


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX systems only")
def test_names_that_are_no_text_are_listed(root: Path, tmp_path: Path, capsys):
    named = root / os.fsdecode(b"caf\xe9")
    try:
        (root / "a").rename(named)
    except OSError:
        pytest.skip("this file system takes no such names")
    assert main(["runs", str(root), "--csv", str(tmp_path / "list.csv")]) == 0
    assert "caf\\udce9 " in capsys.readouterr().out
    assert main(["runs", "diff", str(named), str(root / "deep/b")]) == 0
    assert "caf\\udce9" in capsys.readouterr().out


def test_two_results_are_compared(root: Path, capsys):
    a, b = str(root / "a"), str(root / "deep/b")
    assert main(["runs", "diff", a, b]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert blocks[0].splitlines() == [
        f"A: {a} (crumb stream, er, cups, iid, 3 of 3 runs finished)",
        f"B: {b} (crumb stream, gem, cups, iid, 2 of 3 runs finished)",
    ]
    assert [line.split() for line in blocks[1].splitlines()[2:]] == [["stream.method", "er", "gem"]]
    assert [line.split() for line in blocks[2].splitlines()[2:]] == [["stream.workers", "2", "4"]]
    assert blocks[3].startswith("runs 0, 1 ")
    # Of run 0 by 1, of run 1 by 2.
    assert "\nB - A, points                      +1.5                 +0.8\n" in blocks[3]
    assert "only in A: run 2" in blocks[4]
    assert "no p can be below 0.5 with 2 runs" in blocks[4]


def test_equal_settings_are_said(root: Path, capsys):
    shutil.copytree(root / "a", root / "c")
    assert main(["runs", "diff", str(root / "a"), str(root / "c")]) == 0
    printed = capsys.readouterr().out
    assert "no setting that affects results differs" in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("permutation"))
    assert line.split()[-2:] == ["1", "1"]


def test_without_shared_runs_only_settings_are_compared(root: Path, capsys):
    write(root / "c", {7: 3.0})
    assert main(["runs", "diff", str(root / "a"), str(root / "c")]) == 0
    assert "no run number is finished in both" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["runs", "{root}/none"], "{root}/none: is not a folder"),
        (["runs", "{root}/a/config.toml"], "{root}/a/config.toml: is not a folder"),
        (["runs", "--colour", "red"], "crumb runs: has no flag --colour"),
        (["runs", "--csv"], "--csv: has no value"),
        (["runs", "diff"], "crumb runs diff: A and B are missing"),
        (["runs", "diff", "{root}/a"], "crumb runs diff: B is missing"),
        (["runs", "diff", "{root}/a", "{root}/none"], "{root}/none: is not a folder"),
        (["runs", "diff", "{root}", "{root}/a"], "{root}: is not a results folder"),
        (
            ["runs", "diff", "{root}/a", "{root}/deep/../a"],
            "crumb runs diff {root}/a {root}/deep/../a: names the same folder twice",
        ),
    ],
)
def test_bad_words_are_one_line(root: Path, capsys, words: list[str], line: str):
    assert main([word.format(root=root) for word in words]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"crumb: {line.format(root=root)}")
    assert err.count("\n") == 1
    assert not out


def test_a_damaged_run_ends_the_comparison(root: Path, capsys):
    (root / "a/runs/run1.json").write_text("{")
    assert main(["runs", "diff", str(root / "a"), str(root / "deep/b")]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"crumb: {root / 'a/runs/run1.json'}: is not valid JSON")


def test_a_csv_that_cannot_be_written_is_named(root: Path, capsys):
    assert main(["runs", str(root), "--csv", str(root)]) == 2
    assert f"{root}: cannot be written" in capsys.readouterr().err
