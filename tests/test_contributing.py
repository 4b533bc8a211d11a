"""The example of a new method does what CONTRIBUTING.md says: one file and one row."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


LISTED = """
from crumb.cli.main import main

def test_labels_trick_is_listed(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("labels_trick")]
    assert line.split()[-2:] == ["no", "yes"]
"""


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return found


def test_one_file_and_one_row_make_a_method_that_conforms(tmp_path: Path):
    code, row = block("py"), block("markdown")
    shutil.copytree(ROOT / "src/crumb", tmp_path / "src/crumb", ignore=lambda *_: ["sample"])
    shutil.copytree(ROOT / "tests/methods", tmp_path / "tests/methods")
    for name in ("conftest", "fixtures", "rounding"):
        shutil.copy(ROOT / f"tests/{name}.py", tmp_path / "tests")
    (tmp_path / "src/crumb/methods/labels_trick.py").write_text(code)
    (tmp_path / "docs").mkdir()
    table = (ROOT / "docs/methods.md").read_text()
    head, rule, rest = table.partition("|---|---|---|---|---|\n")
    (tmp_path / "docs/methods.md").write_text(head + rule + row + rest)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}

    (tmp_path / "tests/methods/test_listed.py").write_text(LISTED)
    suite = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "labels_trick"]
    files = ["test_conformance.py", "test_golden_table.py::test_accuracies", "test_listed.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *suite, *(f"tests/methods/{file}" for file in files)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    # All but one: its row of the golden table is asked for.
    assert "no row in golden_table.json: --write-golden-table adds it" in done.stdout
    counts = re.search(r"1 failed, (\d+) passed", done.stdout)
    assert counts, done.stdout
    assert int(counts[1]) >= 21


def test_the_example_is_as_short_as_it_says_and_clean(tmp_path: Path):
    code = block("py")
    assert len([line for line in code.splitlines() if line.strip()]) <= 32
    path = tmp_path / "labels_trick.py"
    path.write_text(code)
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for command in (["check"], ["format", "--check"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, *settings, str(path)], check=True)
