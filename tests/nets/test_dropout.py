"""Dropout and stochastic depth of a tail, whose masks come from our generator."""

from __future__ import annotations

import pytest
import torch
from split_networks import Small, built, images, small
from timm.layers.drop import DropPath
from torch import nn
from torchvision.ops import StochasticDepth

from crumb.errors import InputError
from crumb.nets.dropout import SeededDropout


@pytest.mark.parametrize("scale", [True, False])
def test_drop_path_of_timm_draws_from_our_generator(scale: bool):
    model = Small()
    model.depth = DropPath(0.5, scale)
    network = small(model=model).train()
    network.use_generator(torch.Generator().manual_seed(0))
    features = torch.randn(64, *network.feature_shape, generator=torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    first = network(features)
    assert torch.equal(torch.get_rng_state(), before)
    network.use_generator(torch.Generator().manual_seed(0))
    assert torch.equal(network(features), first)
    (depth,) = [m for m in network.tail.modules() if isinstance(m, SeededDropout) and m.whole]
    kept = depth(torch.ones(64, 2)).unique().tolist()
    assert kept == [0.0, 2.0 if scale else 1.0]


def test_dropout_mask_comes_from_the_generator():
    dropout = SeededDropout(0.25)
    values = torch.ones(64, 64)
    masks = []
    for seed in (1, 1, 2):
        dropout.generator = torch.Generator().manual_seed(seed)
        masks.append(dropout(values))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert masks[0].unique().tolist() == pytest.approx([0, 4 / 3])
    assert (masks[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(dropout.eval()(values), values)


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dropout_keeps_the_mean_and_the_memory_format(probability: float, layout):
    dropout = SeededDropout(probability)
    dropout.generator = torch.Generator().manual_seed(0)
    values = torch.ones(16, 5, 33, 31).contiguous(memory_format=layout)
    found = dropout(values)
    assert found.is_contiguous(memory_format=layout)
    assert found.mean().item() == pytest.approx(1, abs=0.03)
    kept = found.flatten(2).ne(0).float()
    assert kept.mean().item() == pytest.approx(1 - probability, abs=0.005)
    # No place of a map is favoured.
    assert (kept.mean((0, 1)) - (1 - probability)).abs().max() < 0.3


@pytest.mark.parametrize("probability", [1e-9, 1 - 1e-9])
def test_dropout_of_nearly_nothing_and_nearly_all(probability: float):
    dropout = SeededDropout(probability)
    dropout.generator = torch.Generator().manual_seed(0)
    found = dropout(torch.ones(100, 100))
    kept = found[found != 0]
    assert len(kept) == 10_000 if probability < 0.5 else len(kept) < 10
    assert torch.equal(kept, torch.full_like(kept, 1.0 if probability < 0.5 else 65536.0))


def test_stochastic_depth_drops_whole_samples():
    dropout = SeededDropout(0.5, whole=True)
    dropout.generator = torch.Generator().manual_seed(0)
    found = dropout(torch.ones(200, 2, 3, 3))
    per_sample = found.flatten(1)
    assert (per_sample == per_sample[:, :1]).all()
    assert set(per_sample[:, 0].tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("asked", [None, 0.0, 0.3])
def test_dropout_probability_of_the_tail(asked: float | None):
    network = small(dropout=asked)
    layers = [m for m in network.tail.modules() if isinstance(m, SeededDropout) and not m.whole]
    assert [layer.probability for layer in layers] == [0.5 if asked is None else asked]
    assert not any(isinstance(m, (nn.Dropout, StochasticDepth)) for m in network.tail.modules())


@pytest.mark.parametrize(("name", "own"), [("squeezenet1_0", 0.5), ("mobilenet_v2", 0.2)])
def test_published_dropout(name: str, own: float):
    layers = [m for m in built(name).tail.modules() if isinstance(m, SeededDropout)]
    assert [layer.probability for layer in layers] == [own]


def test_dropout_for_a_tail_without_any_is_refused():
    with pytest.raises(InputError, match=r"dropout=0\.3: .*no dropout layer"):
        built("efficientnet_lite0", dropout=0.3)


def test_random_layers_consume_no_global_randomness():
    network = small(model=Small(depth=0.5)).train()
    features = network.features(images(8, 16))
    before = torch.get_rng_state()
    logits = []
    for seed in (0, 0, 1):
        network.use_generator(torch.Generator().manual_seed(seed))
        logits.append(network(features))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_compiling_draws_no_dropout_mask(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    network = small(dropout=0.5)
    generator = torch.Generator().manual_seed(3)
    network.use_generator(generator)
    network.train()
    before = generator.get_state()
    network.compile_tail()
    assert torch.equal(generator.get_state(), before)
    network(torch.ones(2, *network.feature_shape))
    assert not torch.equal(generator.get_state(), before)
