import pytest

from crumb.benchmarks import large
from crumb.benchmarks.timing import peak_resident


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(large, "SIZE", 400)


def test_row(place, small):
    saving, saving_share, loading, loading_share = large.measure(place)
    for row in (saving, loading):
        assert [figure.name for figure in row.figures] == ["plain", "crumb"]
    for row in (saving_share, loading_share):
        assert row.figures[1].value == 400 * 5_408 / 1e6
        assert row.at_most == 1.05
    assert all(figure.value > saving_share.figures[1].value for figure in saving.figures)
    assert not (place.folder / "large.safetensors").exists()


def test_row_without_proc(place, small, monkeypatch):
    monkeypatch.setattr(large, "peak_resident", lambda call: call() and None)
    (row,) = large.measure(place)
    assert row.ratio is None
    assert "/proc/self" in row.note


def test_resident_memory_counts_what_is_gone_after_the_call():
    size = 40 << 20
    peak = peak_resident(lambda: len(b"x" * size))
    assert peak is None or size * 0.9 < peak < size * 1.5
