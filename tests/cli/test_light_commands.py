"""Commands that read text alone do not import torch; mistakes are told before it is imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from crumb.cli.described import commands
from crumb.cli.main import COMMANDS
from crumb.cli.usage import GROUPS
from crumb.data.index import Dataset
from crumb.stream.results import Results

_WITHOUT_TORCH = """
import json, sys
from crumb.cli.main import COMMANDS, main
found = {}
for words in json.loads(sys.argv[1]):
    found[" ".join(words)] = main(words), "torch" in sys.modules
print(json.dumps(found), file=sys.stderr)
"""


def test_no_torch_where_none_is_needed(
    dataset: Dataset, streamed: Callable[..., Results], tmp_path: Path
):
    finished = streamed("--method", "finetune").folder
    shutil.copytree(finished, other := tmp_path / "other")
    folder = str(dataset.folder)
    right = [
        *([name, "--help"] for name in COMMANDS),
        ["help", "stream"],
        ["-V"],
        ["methods"],
        ["backbones"],
        ["presets"],
        ["presets", "show", "core50/crumb"],
        ["completion", "bash"],
        ["data", "list"],
        ["data", "stats", folder],
        ["data", "show", folder, "--output", str(tmp_path / "sheet.png")],
        ["tasks", folder, "--runs", "1", "--output", str(tmp_path / "lists")],
        ["runs", str(finished.parent)],
        ["runs", "diff", str(finished), str(other)],
        ["report", str(finished), "--output", str(tmp_path / "page.html")],
    ]
    wrong = [["strem"], ["stream"], ["stream", "x", "--rnus", "3"], ["stream", "x", "--runs", "no"]]
    program = [sys.executable, "-c", _WITHOUT_TORCH, json.dumps([*right, *wrong])]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    codes = json.loads(done.stderr.splitlines()[-1])
    assert codes == {
        **{" ".join(words): [0, False] for words in right},
        **{" ".join(words): [2, False] for words in wrong},
    }


def test_short_help_shows_about_twenty_flags_that_there_are():
    for name, groups in GROUPS.items():
        found = [one for key, one in commands().items() if key.split()[0] == name]
        known = {flag.name for command in found for flag in command.flags}
        named = [name for names in groups.values() for name in names]
        assert len(named) == len({*named})
        assert {*named} <= known
        for command in found:
            assert sum(flag.name in named for flag in command.flags) <= 24
