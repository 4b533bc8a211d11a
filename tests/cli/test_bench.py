"""The benchmark command on tiny inputs: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json

import pytest

from crumb.benchmarks import assignment, avalanche, index, large, lesson, memory, waiting
from crumb.benchmarks.assignment import Case
from crumb.benchmarks.suite import ROWS
from crumb.benchmarks.workplace import Workplace
from crumb.cli.main import main


@pytest.fixture
def tiny(monkeypatch, network_words):
    monkeypatch.setattr(assignment, "CASES", {"small": Case(2, (32, 5, 4))})
    monkeypatch.setattr(memory, "SIZES", (100, 200))
    monkeypatch.setattr(memory, "LARGE", 2_000)
    monkeypatch.setattr(index, "ROWS", 2_000)
    monkeypatch.setattr(large, "SIZE", 400)
    monkeypatch.setattr(avalanche, "find_spec", lambda name: None)
    monkeypatch.setattr(lesson, "FRAMES", 20)
    monkeypatch.setattr(waiting, "_in_process", lambda *_: [1.0, 1.0])
    whole = Workplace.stream_config
    monkeypatch.setattr(
        Workplace, "stream_config", lambda self, **more: whole(self, epochs_first_task=1, **more)
    )
    return [*network_words, "--repeats", "1", "--runs", "2", "--device", "cpu"]


def test_every_row_is_printed_and_written(tiny, dataset, tmp_path, capsys):
    file = tmp_path / "bench.json"
    before = sorted(dataset.folder.rglob("*"))
    assert main(["bench", *tiny, "--dataset", str(dataset.folder), "--json", str(file)]) == 0
    assert sorted(dataset.folder.rglob("*")) == before
    content = json.loads(file.read_text())
    assert list(dict.fromkeys(row["row"] for row in content["rows"])) == list(ROWS)
    facts, head, _rule, *lines = capsys.readouterr().out.splitlines()
    assert all(str(value) in facts for value in content["machine"].values())
    assert head.split() == ["row:", "what", "ratio", "wanted", "measured"]
    for line, row in zip(lines, content["rows"], strict=False):
        assert line.startswith(f"{row['row']}: {row['what']} ")
        assert ("-" if row["ratio"] is None else f" {row['ratio']:.3g} ") in line
    notes = lines[len(content["rows"]) :]
    assert "avalanche: not installed: pip install 'crumb-learn[bench]'" in notes
    assert notes[-1] == f"all numbers: {file}"


def test_only_the_rows_asked_for(tiny, capsys):
    assert main(["bench", *tiny, "--rows", "memory", "assignment", "memory"]) == 0
    lines = capsys.readouterr().out.splitlines()[3:]
    rows = [line.split()[0] for line in lines if line.startswith(("memory: ", "assignment: "))]
    assert [*dict.fromkeys(rows)] == ["memory:", "assignment:"]
    assert not {line.split(":")[0] for line in lines} & {*ROWS} - {"memory", "assignment"}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--rows", "speed"], ("--rows", "speed")),
        (["--rows"], "--rows"),
        (["--runs", "0"], ("--runs 0", "at least 1")),
        (["--repeats", "0"], ("--repeats 0", "at least 1")),
        (["--device", "tpu"], "--device tpu"),
        (["--backbone", "no_such_net", "--rows", "memory"], "no_such_net"),
    ],
    ids=" ".join,
)
def test_refused(refused, words, names):
    refused("bench", *words, names=names)


def test_a_folder_without_data_set_is_refused_before_anything_is_measured(
    refused, output, monkeypatch
):
    monkeypatch.setattr(assignment, "measure", lambda place: pytest.fail("measured"))
    refused("bench", "--rows", "assignment", "step", "--dataset", output, names=str(output))


def test_a_file_that_cannot_be_written(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    file = tmp_path / "file" / "bench.json"
    assert main(["bench", *tiny, "--rows", "memory", "--json", str(file)]) == 2
    captured = capsys.readouterr()
    assert "step" not in captured.out, "it is found out before anything is measured"
    assert captured.err.count("\n") == 1
    assert str(file) in captured.err
