"""A compiled tail is kept only if it is faster. The compiler here changes nothing."""

from __future__ import annotations

import pytest
import torch
from split_networks import small

from crumb.nets import compiled
from crumb.nets.compiled import keep_if_faster
from crumb.nets.split import SplitNetwork


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> SplitNetwork:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    network = small(dropout=0.5)
    network.tail.compile()
    return network


@pytest.mark.parametrize(("factor", "kept"), [(1.5, False), (0.5, True)])
def test_the_faster_way_is_kept_and_the_slower_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    network: SplitNetwork,
    factor: float,
    kept: bool,
):
    def seconds(network: SplitNetwork, batch_size: int) -> float:
        assert batch_size == 7
        assert network.training
        return factor if network.tail._compiled_call_impl is not None else 1.0

    monkeypatch.setattr(compiled, "_seconds_of_step", seconds)
    network.eval()
    assert keep_if_faster(network, 7) == factor
    assert not network.training
    assert (network.tail._compiled_call_impl is not None) == kept
    said = "compile: a compiled step takes 1.50 times as long as a plain one, so the tail is not"
    assert capsys.readouterr().err == ("" if kept else f"{said} compiled\n")


def test_measuring_leaves_no_trace(network: SplitNetwork):
    generator = torch.Generator().manual_seed(3)
    network.use_generator(generator)
    before, state = generator.get_state(), network.state_dict()
    state = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        assert keep_if_faster(network, 2) > 0
    assert torch.equal(generator.get_state(), before)
    assert network.maps == 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
