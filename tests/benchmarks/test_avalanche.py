import pytest

from crumb.benchmarks import avalanche
from crumb.benchmarks.avalanche import NOT_INSTALLED


def test_not_installed(place, monkeypatch):
    monkeypatch.setattr(avalanche, "find_spec", lambda name: None)
    (comparison,) = avalanche.measure(place)
    assert comparison.ratio is None
    assert comparison.note == NOT_INSTALLED


def test_what_breaks_in_it_is_one_line(place, monkeypatch):
    def broken(*inputs):
        raise TypeError("no\nsuch thing")

    monkeypatch.setattr(avalanche, "find_spec", lambda name: object())
    monkeypatch.setattr(avalanche, "theirs", broken)
    (comparison,) = avalanche.measure(place)
    assert comparison.ratio is None
    assert comparison.note == "does not run: TypeError: no such thing"


def test_ratio_is_per_training_image(place, monkeypatch):
    monkeypatch.setattr(avalanche, "find_spec", lambda name: object())
    monkeypatch.setattr(avalanche, "version", lambda name: "1.2.3")
    monkeypatch.setattr(avalanche, "theirs", lambda place: 126.0 * 2)
    (comparison,) = avalanche.measure(place)
    # Two readings of 42 images, then one.
    assert comparison.figures[0].value == 2.0
    assert comparison.details["images"] == 126
    assert comparison.details["avalanche"] == "1.2.3"


def test_ours_learns_both_tasks_and_stores_raw_features(place, monkeypatch):
    made = []
    make = place.learner
    monkeypatch.setattr(place, "learner", lambda *a, **k: made.append(make(*a, **k)) or made[-1])
    assert avalanche.ours(place) > 0
    (learner,) = made
    assert learner.codebook is None
    counts = learner.exemplars.memory.counts
    assert set(counts) == {0, 1, 2, 3}
    assert learner.bytes_held().replay >= sum(counts.values()) * 48 * 10 * 10 * 4


@pytest.mark.filterwarnings("ignore")
def test_theirs_where_it_is_installed(place):
    pytest.importorskip("avalanche")
    (comparison,) = avalanche.measure(place)
    assert comparison.ratio is not None, comparison.note
