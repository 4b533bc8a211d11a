"""``crumb report`` and ``crumb analyse`` on names that pictures and pages could misread."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from crumb.cli.main import main
from crumb.cli.stream import settings
from crumb.data.index import Dataset
from crumb.reports.panels import read_panels
from crumb.stream.run import stream

CLASSES = ("$x_{1}$", "\\frac{1}{2", "50 % <b>_", "茶碗")
ARMS = ("$a_{b}$ 100%", "猫\\_{")


@pytest.fixture(scope="module")
def results(
    dataset: Dataset, network_words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Results of two arms, which differ in their names alone, on classes with such names."""
    root = tmp_path_factory.mktemp("odd")
    shutil.copytree(dataset.folder, root / "data %_$")
    index = root / "data %_$/dataset.json"
    text = index.read_text()
    for name, odd in zip(dataset.class_names.values(), CLASSES, strict=True):
        text = text.replace(f'"{name}"', json.dumps(odd))
    index.write_text(text)
    words = [str(index.parent), *network_words, "--blocks", "16", "--memory-size", "8"]
    words += ["--epochs-first-task", "1", "--save-model", "--output", str(root / "all" / ARMS[0])]
    stream(*settings(words))
    shutil.copytree(root / "all" / ARMS[0], root / "all" / ARMS[1])
    return root


def words_of(svg: str) -> list[str]:
    """What is written in a picture."""
    root = ElementTree.fromstring(svg)
    return ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_report(results: Path, tmp_path: Path):
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    assert main(["report", str(results / "all"), "-o", str(page), "--figures", str(figures)]) == 0
    panels = {panel.name: words_of(panel.svg) for panel in read_panels(figures)}
    (confusion,) = (words for name, words in panels.items() if name.endswith("confusion"))
    assert {*CLASSES} <= {*confusion}
    assert {f"{name}: {confusion_end(results):.0f}" for name in ARMS} <= {
        *panels["accuracy_over_tasks"]
    }
    html = page.read_text()
    assert "<b>" not in html
    said = unescape(re.sub("<[^>]*>", "", html)).replace("\u00a0", " ")
    for name in (*CLASSES, *ARMS):
        assert name in said


def confusion_end(results: Path) -> float:
    """Final accuracy of both arms, percent."""
    metrics = json.loads((results / "all" / ARMS[0] / "metrics.json").read_text())
    return metrics["summary"]["final_accuracy"]["mean"]


def test_an_analysis(results: Path, tmp_path: Path):
    own, other = (results / "all" / name for name in ARMS)
    out = tmp_path / "out"
    data = ["--dataset", str(results / "data %_$"), "--frames", "1", "--images", "8"]
    assert main(["analyse", str(own), *data, "--versus", str(other), "--output", str(out)]) == 0
    panels = {panel.name: words_of(panel.svg) for panel in read_panels(out)}
    assert {*CLASSES} <= {*panels["block_usage_by_class"]}
    assert {*ARMS} <= {*panels["perturbations"]}
    for path in out.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
