"""The cut of a network in two: what is on each side, what crosses, and the head."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
import torchvision
from split_networks import NETWORKS, Small, built, images, size_of, small, whole
from tests.rounding import assert_rounded, sums_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crumb.errors import InputError
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.graph import split
from crumb.testing.networks import tiny_network


@pytest.mark.parametrize("name", NETWORKS)
def test_front_then_tail_is_the_whole_network(name: str):
    network, model = built(name), whole(name)
    front, tail = network.front.state_dict(), network.tail.state_dict()
    assert not front.keys() & tail.keys()
    model.load_state_dict(front | tail)
    pixels = network.preprocessing(images())
    with torch.no_grad():
        expected, found = model.eval()(pixels), network(network.features(images()))
    assert expected.std() > 0
    assert_rounded(found, expected, *sums_of(model))


@pytest.mark.parametrize(
    ("name", "front", "shape"),
    [
        ("squeezenet1_0", 538_240, (512, 13, 13)),
        ("mobilenet_v2", 76_544, (64, 14, 14)),
        ("resnet18", 2_782_784, (256, 14, 14)),
        ("efficientnet_lite0", 2_353_408, (192, 7, 7)),
    ],
)
def test_size_of_the_front_and_of_what_crosses_the_cut(
    name: str, front: int, shape: tuple[int, ...]
):
    network = built(name)
    assert size_of(network.front) == front
    assert network.feature_shape == shape
    features = network.features(images())
    assert features.shape == (2, *shape)
    assert features.dtype == torch.float32
    assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("name", "layers", "per_class"),
    [("squeezenet1_0", 197_184, 4_609), ("mobilenet_v2", 2_147_328, 1_281)],
)
@pytest.mark.parametrize("classes", [10, 100])
def test_published_size_of_the_tail(name: str, layers: int, per_class: int, classes: int):
    network = built(name)
    network.new_head(classes, torch.Generator())
    assert size_of(network.head) == per_class * classes
    assert size_of(network.tail) == layers + per_class * classes
    assert size_of(network) == size_of(network.front) + size_of(network.tail)


def test_squeezenet_cut_after_its_first_pool():
    network = build_network(NetworkConfig("squeezenet1_0", "features.3", "random"))
    assert network.feature_shape == (96, 54, 54)


def test_squeezenet_ends_in_a_rectified_convolution():
    network = built("squeezenet1_0")
    network.new_head(7, torch.Generator())
    head = network.head
    assert isinstance(head, nn.Conv2d)
    assert (head.kernel_size, head.padding) == ((3, 3), (1, 1))
    logits = network(network.features(images()))
    assert logits.shape == (2, 7)
    assert (logits >= 0).all()
    assert logits.any()


@pytest.mark.parametrize("cut", ["block.second", "depth"])
def test_cut_inside_a_skip_connection_is_refused(cut: str):
    with pytest.raises(InputError, match=f"cut='{cut}': 2 values cross .*whole stage"):
        split(Small(), cut)


def test_resnet_cut_inside_a_block_is_refused():
    model = torchvision.models.get_model("resnet18", weights=None)
    with pytest.raises(InputError, match=r"layer4\.1\.conv2': 2 values cross"):
        split(model, "layer4.1.conv2")


@pytest.mark.parametrize(
    ("cut", "near"),
    [("features", "stem, rectify, block"), ("block.third", r"block\.first, block\.second$")],
)
def test_unknown_layer_names_those_there_are(cut: str, near: str):
    with pytest.raises(InputError, match=f"cut='{cut}': no such layer; choose one of {near}"):
        split(Small(), cut)


def test_layer_that_is_never_called_is_refused():
    with pytest.raises(InputError, match="never calls it"):
        split(Small(), "unused")


def test_cut_after_the_last_map_is_refused():
    with pytest.raises(InputError, match=r"cut='fc': .*shape \(2, 8\).*before .* are pooled"):
        small("fc")


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, values: Tensor) -> Tensor:
        return self.conv(values) if values.sum() > 0 else values


def test_network_that_cannot_be_traced_is_refused():
    with pytest.raises(InputError, match="cannot be traced there"):
        split(Branching(), "conv")


def test_tail_without_a_classifier_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(InputError, match="no classifier layer"):
        small("1", model=model)


def test_tail_leaves_its_input_alone():
    network = small("rectify")
    features = network.features(images(size=16))
    before = features.clone()
    assert (before < 0).any()
    network(features)
    assert torch.equal(features, before)


def test_training_moves_the_tail_but_no_batch_norm_statistics():
    network = small().train()
    assert network.training
    assert not network.front.training
    network.use_generator(torch.Generator().manual_seed(0))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.tail.parameters(), lr=0.1)
    for seed in range(3):
        optimizer.zero_grad()
        logits = network(network.features(images(4, 16, seed)))
        cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()
    moved = {name for name, value in network.state_dict().items() if (value != state[name]).any()}
    assert moved == {f"tail.{name}" for name, _ in network.tail.named_parameters()}
    assert "tail.norm.running_mean" in state
    assert all(parameter.grad is None for parameter in network.front.parameters())
    assert not any(parameter.requires_grad for parameter in network.front.parameters())


def test_batch_norm_of_a_real_tail_stays_in_eval_mode():
    network = built("mobilenet_v2").train()
    norms = [m for m in network.tail.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 20
    assert not any(norm.training for norm in norms)
    assert any(module.training for module in network.tail.modules())


def test_logits_in_eval_mode_do_not_depend_on_the_rest_of_the_batch():
    network = small().train().eval()
    features = network.features(images(3, 16))
    assert_rounded(network(features)[:1], network(features[:1]), *sums_of(network.tail))


def test_features_carry_no_gradient():
    network = small()
    assert not network.features(images(1, 16)).requires_grad


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v2"])
def test_building_consumes_no_global_randomness(name: str):
    before = torch.get_rng_state()
    network = built(name).train()
    network.new_head(10, torch.Generator())
    network.use_generator(torch.Generator())
    network(network.features(images(1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_new_head_keeps_the_rows_it_is_asked_to():
    network = small()
    network.new_head(4, torch.Generator().manual_seed(0))
    old = network.head
    network.new_head(9, torch.Generator().manual_seed(1), keep=3)
    new = network.head
    assert network.outputs == 9
    assert torch.equal(new.weight[:3], old.weight[:3])
    assert old.bias is not None
    assert new.bias is not None
    assert torch.equal(new.bias[:3], old.bias[:3])
    assert not (new.weight[3] == old.weight[3]).any()
    assert new.weight.requires_grad
    assert new.bias.requires_grad
    assert network(network.features(images(2, 16))).shape == (2, 9)


def test_new_head_is_drawn_like_a_fresh_layer():
    network = built("squeezenet1_0")
    network.new_head(50, torch.Generator().manual_seed(0))
    first = network.head.weight.detach()
    network.new_head(50, torch.Generator().manual_seed(0))
    assert torch.equal(network.head.weight, first)
    bound = (512 * 9) ** -0.5
    assert first.abs().max() <= bound
    assert first.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert network.head.bias is not None
    assert network.head.bias.abs().max() <= bound


def test_old_head_leaves_no_trace():
    network = small()
    network.new_head(7, torch.Generator())
    heads = [value for value in network.state_dict().values() if value.shape == (5, 8)]
    assert not heads


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v2", "resnet18"])
def test_penultimate_is_what_the_head_weighs(name):
    network = built(name)
    network.eval()
    features = network.features(images(3))
    with torch.no_grad():
        entered = network.penultimate(features)
        logits, linear = network(features), network(features, linear=True)
    assert not network.head._forward_hooks
    if name == "squeezenet1_0":
        # Its head is a convolution, followed by a rectifier and by the mean over places.
        assert entered.shape == (3, 512)
        assert logits.min() >= 0 > linear.min()
        return
    assert_rounded(network.head(entered), logits, *sums_of(network.head))
    assert_rounded(linear, logits, *sums_of(network.head))


def test_a_compiled_tail_is_the_tail():
    """To the code that the compiler writes: a whole step, of the smallest network there is."""
    if shutil.which("g++") is None:
        pytest.skip("compiling needs a C++ compiler")
    if os.environ.get("ATEN_CPU_CAPABILITY") == "default":
        pytest.skip("torch's compiler writes vector code, which this capability does not have")
    plain, compiled = tiny_network().train(), tiny_network().train()
    compiled.compile_tail()
    maps = torch.rand(2, *plain.feature_shape, generator=torch.Generator().manual_seed(0))
    expected, found = plain(maps), compiled(maps)
    assert_rounded(found, expected, *sums_of(plain))
    for logits in (expected, found):
        cross_entropy(logits, torch.tensor([0, 1])).backward()
    gradients = {name: p.grad for name, p in plain.trained().items()}
    same = {name: p.grad for name, p in compiled.trained().items()}
    assert_rounded(same, gradients, *sums_of(plain))
