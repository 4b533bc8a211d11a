import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crumb.benchmarks.report import Comparison, Figure, headline, machine, write

TIMES = st.floats(1e-6, 1e6)


@given(TIMES, TIMES)
def test_ratio_is_the_first_figure_over_the_second(first: float, second: float):
    comparison = Comparison("step", "x", (Figure("a", first), Figure("b", second)))
    assert comparison.ratio == pytest.approx(first / second)
    assert comparison.as_json()["ratio"] == comparison.ratio
    assert float(comparison.cells()[1]) == pytest.approx(first / second, rel=0.01)


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [({}, "-"), ({"at_least": 0.95}, ">= 0.95"), ({"at_most": 2.0}, "<= 2")],
)
def test_cells(bounds, wanted):
    figures = (Figure("plain", 0.19), Figure("crumb", 0.2))
    comparison = Comparison("step", "stream step", figures, **bounds)
    assert comparison.cells() == [
        "step: stream step",
        "0.95",
        wanted,
        "plain 0.19 s / crumb 0.2 s",
    ]


def test_without_measurement():
    comparison = Comparison("avalanche", "x", note="not installed")
    assert comparison.cells() == ["avalanche: x", "-", "-", "-"]
    assert comparison.as_json()["ratio"] is None
    assert comparison.as_json()["figures"] == []


def test_file(tmp_path):
    figures = (Figure("plain", 3.0, "MB"), Figure("crumb", 1.5, "MB"))
    comparison = Comparison("step", "x", figures, 0.95, details={"images": 7}, note="n")
    write(tmp_path / "bench.json", machine("cpu"), [comparison])
    content = json.loads((tmp_path / "bench.json").read_text())
    assert (content["format"], content["version"]) == ("crumb-bench", 1)
    assert content["machine"].keys() == {"cpu", "cores", "threads", "torch", "device", "date"}
    assert content["rows"] == [
        {
            "row": "step",
            "what": "x",
            "ratio": 2.0,
            "figures": [
                {"name": "plain", "value": 3.0, "unit": "MB"},
                {"name": "crumb", "value": 1.5, "unit": "MB"},
            ],
            "at_least": 0.95,
            "at_most": None,
            "details": {"images": 7},
            "note": "n",
        }
    ]


def test_headline_is_one_line_of_all_facts():
    facts = machine("cpu")
    assert facts["cpu"]
    line = headline(facts)
    assert "\n" not in line
    assert all(str(value) in line for value in facts.values())
