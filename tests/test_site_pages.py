"""What the tutorials, the notebook and the SLURM script show works."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from crumb.nets import backbones
from crumb.nets.config import Backbone, Preprocessing

ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "docs/notebook.ipynb").read_text())
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def lines_of(page: str, language: str) -> list[str]:
    blocks = FENCE.findall((ROOT / page).read_text())
    return [line for kind, body in blocks if kind == language for line in body.splitlines()]


@pytest.mark.parametrize("page", ["docs/tutorial-videos.md", "docs/tutorial-research.md"])
def test_commands_of_a_tutorial_are_run_for_the_guide_or_the_readme(page: str):
    """By test_docs.py: these pages have no command of their own."""
    run = {line for other in ("README.md", "docs/guide.md") for line in lines_of(other, "console")}
    shown = lines_of(page, "bash")
    assert shown
    assert set(shown) <= run


def test_the_notebook_shows_what_its_cells_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a small network, which knows the clips less well but answers in the same form."""
    monkeypatch.chdir(tmp_path)
    small = Backbone(
        "timm", "test_efficientnet", "blocks.4", preprocessing=Preprocessing(64), block_length=8
    )
    monkeypatch.setitem(backbones.BACKBONES, "efficientnet_lite0", small)
    monkeypatch.setattr(backbones, "load_weights", lambda *weights: None)
    space: dict[str, object] = {}
    shown = [run_cell(cell, space) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert shown[:2] == ["('slda', [])", "(16, (224, 224))"]
    assert "3 classes, 48 frames" in shown[2]
    assert set(ast.literal_eval(shown[3])) <= {"lamp", "car", "person"}
    assert shown[-1] == "True"


def run_cell(cell: dict, space: dict[str, object]) -> str:
    """Run a cell and return what a notebook shows: the value of its last line, if that has one."""
    tree = ast.parse("".join(cell["source"]))
    expected = [output["output_type"] for output in cell["outputs"]]
    last = tree.body.pop() if expected == ["execute_result"] else None
    with contextlib.redirect_stdout(None):
        exec(compile(tree, "notebook", "exec"), space)
    if last is None:
        return ""
    assert isinstance(last, ast.Expr)
    return repr(eval(compile(ast.Expression(last.value), "notebook", "eval"), space))


STAND_IN = """#!/bin/bash
echo "$(basename "$0") $*" >> calls
[ "$(basename "$0")" = scontrol ] && exit 0
trap 'exit 138' USR1
[ -e interrupt ] && kill -USR1 "$PPID"
[ -e interrupt ] && while true; do sleep 0.01; done
exit "$(cat code)"
"""


@pytest.mark.parametrize(
    ("begun", "interrupted", "code"),
    [(False, True, 0), (True, True, 0), (True, False, 0), (False, False, 2)],
)
def test_the_slurm_script_goes_on_until_the_run_is_finished(
    tmp_path: Path, begun: bool, interrupted: bool, code: int
):
    """Stand-ins for `crumb` and `scontrol` note what they are called with."""
    for name in ("crumb", "scontrol"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "code").write_text(str(code))
    if begun:
        (tmp_path / "results/crumb").mkdir(parents=True)
        (tmp_path / "results/crumb/config.toml").touch()
    if interrupted:
        (tmp_path / "interrupt").touch()
    script = "\n".join(lines_of("docs/slurm.md", "bash"))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    ended = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, timeout=20, check=False
    )
    assert ended.returncode == code
    new = "crumb stream my-data --method crumb --runs 10 --output results/crumb"
    calls = ["crumb stream --resume results/crumb" if begun else new]
    calls += ["scontrol requeue 7"] * interrupted
    assert (tmp_path / "calls").read_text().splitlines() == calls
