"""Convolutions that run into a fault of oneDNN are computed in another way."""

from __future__ import annotations

import pytest
import torch
from split_networks import Small, images
from tests.rounding import assert_rounded, sums_of
from torch import nn

from crumb.nets.config import Backbone, NetworkConfig, Preprocessing
from crumb.nets.split import SplitNetwork
from crumb.nets.strided import ThinnedConv, replace_strided


@pytest.mark.parametrize(("channels", "side", "stride"), [(3, 9, 2), (15, 8, 3), (3, 8, (2, 1))])
def test_thin_convolutions_with_a_stride_compute_what_they_did(
    channels: int, side: int, stride: int | tuple[int, int]
):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(channels, 6, 1, stride)  # pyright: ignore[reportArgumentType]
    tail = nn.Sequential(layer)
    replace_strided(tail)
    thinned = tail[0]
    assert isinstance(thinned, ThinnedConv)
    assert thinned.weight is layer.weight
    values = torch.randn(2, channels, side, side, generator=generator)
    found = thinned(values.contiguous(memory_format=torch.channels_last))
    expected = layer(values)
    assert_rounded(found, expected, *sums_of(layer))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 4, 1, 2),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, 2),
        nn.Conv2d(4, 4, 1, 2, groups=4),
        nn.Conv2d(4, 4, 1, 2, padding=1),
    ],
)
def test_other_convolutions_are_left_alone(layer: nn.Conv2d):
    tail = nn.Sequential(layer)
    replace_strided(tail)
    assert tail[0] is layer


def test_a_network_that_begins_with_a_thin_convolution_is_trained_from_its_first_layer():
    """The library wrote beyond its memory here, and the process ended."""
    model = Small(dropout=0.0)
    model.stem = nn.Conv2d(3, 8, 1, 2)
    backbone = Backbone("torchvision", "small", "stem", preprocessing=Preprocessing(64))
    network = SplitNetwork(model, backbone, NetworkConfig("small", None, "random", trainable="all"))
    for seed in range(3):
        network(network.features(images(4, 64, seed))).sum().backward()
    stem = network.tail.get_submodule("stem")
    assert isinstance(stem, nn.Conv2d)
    gradient = stem.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()
