from __future__ import annotations

import pytest

from crumb.benchmarks import front
from crumb.nets import fronts


@pytest.mark.usefixtures("all_engines")
def test_torch_is_divided_by_the_engine_that_auto_takes(setting, monkeypatch):
    times = {"torch": 1.0, "onnxruntime": 0.1, "openvino": 0.2}
    monkeypatch.setattr(fronts, "_CHOSEN", {})
    monkeypatch.setattr(fronts, "_remembered", lambda key: None)
    monkeypatch.setattr(fronts, "seconds_per_image", lambda *_: times)
    monkeypatch.setattr(front, "_IMAGES", 4)
    found = front.measure_front(setting.network, 1)
    assert [figure.name for figure in found.figures] == ["torch", "onnxruntime"]
    seconds = found.details["seconds_per_image"]
    assert found.ratio == seconds["torch"] / seconds["onnxruntime"] > 0
    assert found.details["chosen"] == "onnxruntime"


def test_without_an_engine_there_is_no_ratio(setting):
    found = front.measure_front(setting.network, 1)
    assert found.ratio is None
    assert "docs/engines.md" in found.note
