from __future__ import annotations

from copy import deepcopy

import torch
from tests.rounding import assert_rounded

from crumb.benchmarks import tail
from crumb.nets.backbones import build_network
from crumb.nets.norms import NormedConv, unfold_norms


def test_row(place):
    norms, gradient = tail.measure(place)
    assert [figure.name for figure in norms.figures] == ["norms apart", "crumb"]
    assert [figure.name for figure in gradient.figures] == ["embedding", "crumb"]
    assert all(figure.value > 0 for row in (norms, gradient) for figure in row.figures)


def test_both_ways_take_the_same_step(setting):
    network = build_network(setting.network)
    plain = deepcopy(network)
    unfold_norms(plain.tail)
    folded = [sum(isinstance(m, NormedConv) for m in n.tail.modules()) for n in (network, plain)]
    assert folded[0] > folded[1] == 0
    for one in (network, plain):
        tail.step(one)()
    before = build_network(setting.network).trained()
    changes = [
        torch.cat([(p - before[name]).flatten() for name, p in one.trained().items()]).detach()
        for one in (network, plain)
    ]
    magnitude = max(float(p.detach().abs().max()) for p in before.values())
    assert changes[1].abs().max() > 0
    assert_rounded(changes[0], changes[1], 1000, 10, magnitude)
