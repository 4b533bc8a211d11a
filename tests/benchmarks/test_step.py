import pytest
import torch

from crumb.benchmarks import step
from crumb.benchmarks.step import FORMATS, Contest


@pytest.fixture(scope="module")
def contest(place):
    return Contest(place)


@pytest.mark.parametrize("form", FORMATS)
def test_both_loops_have_the_same_losses(contest, form):
    assert contest.disagreement(form) < 1e-4


def test_other_draws_would_show(contest, monkeypatch):
    draws = torch.rand
    monkeypatch.setattr(
        step.torch, "rand", lambda *size, **options: 1 - draws(*size, **options) - 1e-9
    )
    # The learner draws by the same function, so only one of the two is turned round.
    monkeypatch.setattr(contest._ours.exemplars.memory, "draw", _turned_back(contest, draws))
    assert contest.disagreement("contiguous") > 1e-4


def _turned_back(contest, draws):
    memory = contest._ours.exemplars.memory

    def draw(labels, generator):
        chances = draws(len(labels), generator=generator, dtype=torch.float64).tolist()
        rows = [memory.class_rows(label) for label in labels]
        chosen = [part[int(c * len(part))] for part, c in zip(rows, chances, strict=True)]
        return torch.stack(chosen)

    return draw


def test_both_replay_and_end_with_the_same_weights(contest):
    batches = len(contest.short.reading(1))
    assert batches > 1
    assert len(contest._plain_call("contiguous", None)()) == 2 * batches
    contest.ours()
    ours, plain = contest._ours.parameters(), contest._plain.parameters()
    for name, value in ours.items():
        torch.testing.assert_close(plain[name], value, rtol=1e-3, atol=1e-5)


def test_every_turn_starts_from_the_same_state(contest):
    ends = []
    for _ in range(2):
        contest.ours()
        ends.append({name: p.detach().clone() for name, p in contest._ours.parameters().items()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert any(
        not torch.equal(contest._state[f"network.{name}"], ends[0][name])
        for name in ends[0]
        if f"network.{name}" in contest._state
    )


def test_row(place):
    (comparison,) = step.measure(place)
    assert comparison.at_least == 0.95
    assert [figure.name for figure in comparison.figures] == ["plain", "crumb"]
    assert comparison.details["images"] == 42
    assert comparison.details["plain_memory_format"] in FORMATS
    assert comparison.details["largest_relative_difference_of_a_loss"] < 1e-4
