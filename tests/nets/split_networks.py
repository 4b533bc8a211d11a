"""Networks to cut: those there are, with random weights, and a small one of our own."""

from __future__ import annotations

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from crumb.nets.backbones import build_network
from crumb.nets.config import Backbone, EngineName, NetworkConfig, Preprocessing
from crumb.nets.fronts import use_engine
from crumb.nets.split import SplitNetwork

NETWORKS = {
    "squeezenet1_0": (None, "random"),
    "mobilenet_v2": (None, "random"),
    "resnet18": ("layer4", "random"),
    "efficientnet_lite0": (None, "pretrained"),
}


def built(name: str, dropout: float | None = None) -> SplitNetwork:
    cut, weights = NETWORKS[name]
    return build_network(NetworkConfig(name, cut, weights, dropout))


def whole(name: str) -> nn.Module:
    if name == "efficientnet_lite0":
        return timm.create_model("tf_efficientnet_lite0")
    return torchvision.models.get_model(name, weights=None)


def images(count: int = 2, size: int = 224, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def size_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.second(self.first(values).relu())


class Small(nn.Module):
    """16 x 16 pixels, 8 channels, 5 classes, every kind of layer that needs care."""

    def __init__(self, dropout: float = 0.5, depth: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.rectify = nn.ReLU(inplace=True)
        self.block = Residual()
        self.norm = nn.BatchNorm2d(8)
        self.depth: nn.Module = StochasticDepth(depth, "row")
        self.dropout = nn.Dropout(dropout)
        self.unused = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, values: Tensor) -> Tensor:
        values = self.block(self.rectify(self.stem(values)))
        values = values + self.depth(self.norm(values))
        return self.fc(self.dropout(values.mean((2, 3))))


def small(
    cut: str = "block", dropout: float | None = None, model: nn.Module | None = None
) -> SplitNetwork:
    backbone = Backbone("torchvision", "small", cut, preprocessing=Preprocessing(16))
    config = NetworkConfig("small", cut, "random", dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return SplitNetwork(model or Small(), backbone, config)


def with_engine(name: EngineName, or_torch: bool = False) -> SplitNetwork:
    network = small().eval()
    use_engine(network, name, or_torch)
    return network
