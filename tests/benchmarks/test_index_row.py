import pytest

from crumb.benchmarks import index


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(index, "ROWS", 3_000)


def test_row(place):
    seconds, memory = index.measure(place)
    assert "3,000 images" in seconds.what
    assert [figure.name for figure in seconds.figures] == ["plain", "crumb"]
    assert {figure.unit for figure in memory.figures} == {"MB"}
    assert not (place.folder / "large_dirmap.csv").exists()


def test_row_without_proc(place, monkeypatch):
    monkeypatch.setattr(index, "peak_resident", lambda call: None)
    (seconds,) = index.measure(place)
    assert seconds.ratio is not None
