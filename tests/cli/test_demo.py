"""The demo, on few of its clips, with a small network in the place of the large one."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image
from tests.complaints import complaints

from crumb.cli import demo
from crumb.cli.main import main
from crumb.data import decode
from crumb.nets import backbones
from crumb.nets.config import Backbone, Preprocessing


@pytest.fixture
def short(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object of each of four classes instead of three of eight, in pictures of 32 pixels."""
    shutil.copytree(clips, tmp_path / "package/sample/clips")
    monkeypatch.setattr(demo, "files", lambda package: tmp_path / "package")
    monkeypatch.setattr(decode, "_pool", ThreadPoolExecutor)
    small = Backbone(
        "timm", "test_efficientnet", "blocks.4", preprocessing=Preprocessing(32), block_length=8
    )
    monkeypatch.setitem(backbones.BACKBONES, "efficientnet_lite0", small)
    monkeypatch.setattr(backbones, "load_weights", lambda *weights: None)


def test_demo_prints_a_table_and_draws(short, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["demo", str(output), "--memory-size", "40"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert {"finetune", "crumb", "slda"} <= rows.keys()
    for name in ("finetune", "crumb", "slda"):
        metrics = json.loads((output / "results" / name / "metrics.json").read_text())
        assert f"{metrics['summary']['final_accuracy']['mean']:.1f}" in rows[name]
    for picture in ("accuracy.png", "tasks.png"):
        with Image.open(output / picture) as image:
            assert image.convert("L").getextrema() != (255, 255)
    results = {path: path.read_bytes() for path in output.rglob("*_all_runs.csv")}
    assert main(["demo", str(output), "--memory-size", "40"]) == 0
    assert rows["crumb"] in capsys.readouterr().out, "finished runs are kept, seconds included"
    assert {path: path.read_bytes() for path in output.rglob("*_all_runs.csv")} == results
    assert main(["demo", str(output), "--memory-size", "41"]) == 2
    assert complaints(capsys.readouterr().err) == [
        f"crumb: {output}: holds results with other settings; "
        "name another folder (crumb demo OTHER) or remove it"
    ]


def test_the_sample_is_what_the_demo_says():
    """240 clips of eight classes: three objects of each, in ten clips."""
    root = files("crumb") / "sample" / "clips"
    clips = [path.relative_to(str(root)) for path in Path(str(root)).rglob("*.mp4")]
    objects = Counter(clip.parent for clip in clips)
    classes = Counter(folder.name.split("_")[0] for folder in objects)
    assert ({*objects.values()}, {*classes.values()}, len(classes)) == ({10}, {3}, 8)
    assert "eight classes from 240 short clips" in (demo.Demo.__doc__ or "")
