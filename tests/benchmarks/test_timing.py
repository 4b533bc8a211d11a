import pytest
import torch

from crumb.benchmarks.timing import (
    interleaved,
    peak_bytes,
    seconds,
    thread_counts,
    threads,
    timed,
)


def test_contestants_take_turns_and_the_first_turn_does_not_count():
    turns = []
    left = {"a": iter([100.0, 1.0, 5.0, 2.0]), "b": iter([0.0, 30.0, 10.0, 20.0])}

    def contestant(name):
        def turn():
            turns.append(name)
            return next(left[name])

        return turn

    found = interleaved({name: contestant(name) for name in left}, 3, "test")
    assert found == {"a": 2.0, "b": 20.0}
    assert "".join(turns) == "abababab"


def test_each_timed_call_is_its_own():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in ("a", "b")}
    assert all(turn() >= 0 for turn in timed(calls, "cpu").values())
    assert called == ["a", "b"]


def test_seconds_are_of_the_call(monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert seconds(lambda: None, "cpu") == 2.5


def test_peak_is_the_most_held_at_once():
    def one_after_the_other():
        torch.empty(1_000_000, dtype=torch.uint8)
        torch.empty(2_000_000, dtype=torch.uint8)

    def both():
        return [torch.empty(size, dtype=torch.uint8) for size in (1_000_000, 2_000_000)]

    assert peak_bytes(one_after_the_other, "cpu") == 2_000_000
    assert peak_bytes(both, "cpu") == 3_000_000


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), threads(before + 1):
        _ = 1 / 0
    assert torch.get_num_threads() == before


def test_thread_counts_name_none_twice():
    assert thread_counts() == [1]
    with threads(3):
        assert thread_counts() == [1, 3]
