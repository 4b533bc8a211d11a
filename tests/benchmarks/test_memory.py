import pytest

from crumb.benchmarks import memory


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(memory, "SIZES", (100, 200))
    monkeypatch.setattr(memory, "LARGE", 2_000)


@pytest.mark.parametrize(
    ("policy", "written"), [("end-of-task", 0), ("on-arrival", 2 * memory.BATCH_SIZE)]
)
def test_each_turn_finds_a_full_memory_of_old_classes(place, monkeypatch, policy, written):
    learner = place.learner(12, memory_size=1000, write_policy=policy)
    monkeypatch.setattr(place, "learner", lambda *outputs, **settings: learner)
    turn = memory._turn(place, policy, 1000)
    for _ in range(2):
        assert turn() > 0
        counts = learner.exemplars.memory.counts
        assert sum(counts.values()) == 1000
        assert sum(count for label, count in counts.items() if label >= 10) == written


def test_row(place):
    comparisons = memory.measure(place)
    assert [c.what for c in comparisons] == [
        "step with a full memory, end-of-task",
        "step with a full memory, on-arrival",
        "a batch at the end of a task",
        "drawing by class",
        "drawing from all",
    ]
    for comparison in comparisons[:2]:
        assert [figure.name for figure in comparison.figures] == ["200", "100"]
    for comparison in comparisons[2:]:
        assert [figure.name for figure in comparison.figures] == ["2,000", "1,000"]
