"""The demo, on all of its clips, with a small network in the place of the large one."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from crumb.cli.main import main
from crumb.nets import backbones
from crumb.nets.config import Backbone, Preprocessing


@pytest.fixture
def small_network(monkeypatch):
    small = Backbone(
        "timm", "mobilenetv3_small_050", "blocks.5", preprocessing=Preprocessing(32), block_length=8
    )
    monkeypatch.setitem(backbones.BACKBONES, "efficientnet_lite0", small)
    monkeypatch.setattr(backbones, "load_weights", lambda *weights: None)


def test_demo_prints_a_table_and_draws(small_network, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["demo", str(output), "--memory-size", "40"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert {"finetune", "crumb", "offline"} <= rows.keys()
    for name in ("finetune", "crumb", "offline"):
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
    assert capsys.readouterr().err == (
        f"crumb: {output}: holds results with other settings; "
        "name another folder (crumb demo OTHER) or remove it\n"
    )
