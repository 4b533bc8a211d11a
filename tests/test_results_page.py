"""The tables of docs/results.md are those of the CSV files in benchmarks/results."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import make_results

ROOT = Path(__file__).parents[1]
PAGE, FOLDER = ROOT / "docs/results.md", ROOT / "benchmarks/results"
HEAD = "method,budget_bytes,run,final_accuracy,average_accuracy,forgetting,replay_bytes,extra_bytes"
ROWS = [
    "er,1000,0,60,70,20,900,50,5",
    "er,1000,1,64,72,22,900,60,7",
    "crumb,1000,0,70,80,,1000,50,9",
    "finetune,,0,20,40,90,0,0,3",
    "offline,,0,90,95,1,0,9000,30",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.csv").write_text("\n".join([f"{HEAD},seconds", *ROWS, ""]))
    return tmp_path


def test_the_page_has_the_numbers_of_the_files():
    assert make_results.fill(PAGE, make_results.tables(FOLDER)) == PAGE.read_text()


def test_a_table_worked_by_hand(folder: Path, capsys):
    assert make_results.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == ["<!-- table small -->", "", "1,000 bytes:", "", lines[4]]
    assert lines[4].startswith("| method | rank | final accuracy, % | average accuracy, % |")
    # The bytes are the most of any run, the seconds the mean; 1,050 bytes are over the budget.
    assert lines[6:10] == [
        "| `offline` | - | 90.0 | 95.0 | 1.0 | 0 | 9,000 | 30 | 1 |",
        "| `er` | 1 | 62.0 ± 2.8 | 71.0 ± 1.4 | 21.0 ± 1.4 | 900 | 960 | 6 | 2 |",
        "| `finetune` | 2 | 20.0 | 40.0 | 90.0 | 0 | 0 | 3 | 1 |",
        "| `crumb` | over budget | 70.0 | 80.0 | - | 1,000 | 1,050 | 9 | 1 |",
    ]
    assert lines[-1] == "<!-- end -->"


def test_a_page_is_filled(folder: Path):
    page = folder / "page.md"
    page.write_text("before\n<!-- table small -->\nold\n<!-- end -->\nafter\n")
    assert make_results.main([str(folder), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- table small -->\n\n1,000 bytes:")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    assert make_results.main([str(folder), "--page", str(page)]) == 0
    assert page.read_text() == text


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("page.md", "no place", "table small: has no place on the page; add <!-- table small -->"),
        ("page.md", "<!-- table other -->\n<!-- end -->", "has no"),
        ("small.csv", "a,b\n1,2\n", "small.csv: is not the table of a comparison"),
        ("small.csv", f"{HEAD},seconds\ner,1000,0,much,1,1,1,1,1\n", "small.csv: is damaged"),
        ("small.csv", f"{HEAD},seconds\ner,1000,0,5\n", "small.csv: is damaged"),
        ("small.csv", None, "holds no CSV file"),
    ],
)
def test_what_cannot_be_made_is_one_line(folder: Path, capsys, name: str, text, said: str):
    (folder / "page.md").write_text("<!-- table small -->\n<!-- end -->")
    path = folder / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    before = (folder / "page.md").read_text()
    assert make_results.main([str(folder), "--page", str(folder / "page.md")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert (folder / "page.md").read_text() == before
