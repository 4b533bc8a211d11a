"""Norms that a convolution computes: the same numbers, gradients and names as without."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from split_networks import Small, built, small
from tests.rounding import assert_rounded
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.fx import symbolic_trace
from torch.nn.functional import batch_norm, conv2d

from crumb.nets.norms import NormedConv, PassingNorm, fold_norms
from crumb.nets.split import SplitNetwork


class Normed(Small):
    """The convolution of the tail may have a bias, the norm may be timm's or have no weights."""

    def __init__(
        self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d, bias: bool = False
    ) -> None:
        super().__init__(dropout=0.0)
        self.mix = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=bias)
        self.norm = norm(8)

    def forward(self, values: Tensor) -> Tensor:
        values = self.norm(self.mix(self.block(self.rectify(self.stem(values)))))
        return self.fc(values.mean((2, 3)))


class UsedTwice(Normed):
    def forward(self, values: Tensor) -> Tensor:
        mixed = self.mix(self.block(self.rectify(self.stem(values))))
        return self.fc((mixed + self.norm(mixed)).mean((2, 3)))


class CalledTwice(Normed):
    def forward(self, values: Tensor) -> Tensor:
        values = self.norm(self.mix(self.block(self.rectify(self.stem(values)))))
        return self.fc(self.norm(self.mix(values)).mean((2, 3)))


class InTrainingAlone(Normed):
    def forward(self, values: Tensor) -> Tensor:
        values = self.mix(self.block(self.rectify(self.stem(values))))
        return self.fc((self.norm(values) if self.training else values).mean((2, 3)))


def split(model: nn.Module) -> SplitNetwork:
    """With statistics and weights of the norm that make a difference."""
    generator = torch.Generator().manual_seed(1)
    norm = model.get_submodule("norm")
    for name, value in (*norm.named_parameters(), *norm.named_buffers()):
        if value.is_floating_point():
            low = 0.5 if name in ("weight", "running_var") else -1
            nn.init.uniform_(value, low, 1.5, generator)
    return small(model=model)


def tail_of(network: SplitNetwork) -> Any:
    """Its layers by name, whose types a module does not tell."""
    return network.tail


def maps(seed: int = 2) -> Tensor:
    return torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_numbers_and_gradients_are_those_of_convolution_and_norm(bias: bool, affine: bool):
    network = split(Normed(lambda size: nn.BatchNorm2d(size, affine=affine), bias)).train()
    tail = tail_of(network)
    assert isinstance(tail.mix, NormedConv)
    results = {}
    for name in ("folded", "plain"):
        network.zero_grad()
        values = maps().requires_grad_()
        if name == "folded":
            logits = network(values)
        else:
            mixed = conv2d(tail.block(values), tail.mix.weight, tail.mix.bias, 1, 1, 1, 2)
            mean, variance = tail.norm.running_mean, tail.norm.running_var
            normed = batch_norm(mixed, mean, variance, tail.norm.weight, tail.norm.bias)
            logits = network.head(normed.mean((2, 3)))
        logits.square().sum().backward()
        gradients = {n: p.grad for n, p in network.trained().items() if p.grad is not None}
        results[name] = {"logits": logits.detach(), "values": values.grad} | gradients
    assert results["folded"].keys() == results["plain"].keys()
    assert ("tail.norm.weight" in results["folded"]) == affine
    for name, expected in results["plain"].items():
        magnitude = float(expected.abs().max())
        # Of the gradients of weights: a term for each place of each image.
        assert_rounded(results["folded"][name], expected, 3 * 8 * 8 * 9, 4, magnitude)


def test_an_activation_within_the_norm_is_still_computed():
    network = split(Normed(BatchNormAct2d)).eval()
    tail = tail_of(network)
    assert isinstance(tail.norm, PassingNorm)
    normed = tail.norm(tail.mix(tail.block(maps())))
    assert normed.min() == 0 < normed.max()


@pytest.mark.parametrize("kind", [UsedTwice, CalledTwice, InTrainingAlone])
def test_a_norm_stays_where_the_convolution_is_not_its_alone(kind: type[Normed]):
    network = split(kind())
    assert not any(isinstance(m, (NormedConv, PassingNorm)) for m in network.tail.modules())


def test_a_head_is_no_part_of_it():
    class Convolved(Normed):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(8, 5, 1)
            self.norm = nn.BatchNorm2d(5)

        def forward(self, values: Tensor) -> Tensor:
            return self.norm(self.head(self.block(self.rectify(self.stem(values)))))

    tail: Any = symbolic_trace(Convolved()).eval()
    before = tail(torch.ones(1, 3, 16, 16))
    fold_norms(tail, "head")
    assert type(tail.head) is nn.Conv2d
    fold_norms(tail, "")
    assert type(tail.head) is NormedConv
    assert_rounded(tail(torch.ones(1, 3, 16, 16)), before, 72, 4)


@pytest.mark.parametrize("layer", ["mix", "norm"])
def test_beside_a_layer_an_adapter_gets_and_changes_what_it_would_without(layer: str):
    network = split(Normed(bias=True)).eval()
    seen: list[Tensor] = []
    adapter = nn.Conv2d(8, 8, 1)
    adapter.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    network.add_adapter("beside", adapter, layer)
    tail, values = tail_of(network), maps()
    mixed = conv2d(tail.block(values), tail.mix.weight, tail.mix.bias, 1, 1, 1, 2)
    entered = tail.block(values) if layer == "mix" else mixed
    left = mixed + adapter(entered) if layer == "mix" else mixed
    normed = batch_norm(
        left, tail.norm.running_mean, tail.norm.running_var, tail.norm.weight, tail.norm.bias
    )
    if layer == "norm":
        normed = normed + adapter(entered)
    assert_rounded(network(values), network.head(normed.mean((2, 3))), 72, 5)
    assert_rounded(seen[-1], entered, 72, 3)


def test_beside_a_layer_that_holds_both_the_norm_stays_with_its_convolution():
    network = built("mobilenet_v2")
    count = sum(isinstance(module, NormedConv) for module in network.tail.modules())
    network.add_adapter("beside", nn.Conv2d(160, 320, 1), "features.17")
    assert sum(isinstance(module, NormedConv) for module in network.tail.modules()) == count
    network.add_adapter("inside", nn.Identity(), "features.17.conv.1.1")
    assert sum(isinstance(module, NormedConv) for module in network.tail.modules()) == count - 1


def test_a_copy_follows_its_own_statistics():
    network = split(Normed()).eval()
    other = copy.deepcopy(network)
    before = network(maps())
    tail_of(other).norm.running_mean.add_(1)
    assert torch.equal(network(maps()), before)
    assert not torch.equal(other(maps()), before)
