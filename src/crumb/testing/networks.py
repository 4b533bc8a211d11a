"""A tiny network for tests, built like real ones, and its data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from crumb.data.batches import Batch
from crumb.nets.config import Backbone, NetworkConfig, Preprocessing
from crumb.nets.split import SplitNetwork

SIZE = 8
TERMS = 3 * 4 * 4 + 2 * 2 + 8
"""Numbers added up for a logit, one way or another: a kernel, the places of a map, the features."""


class TinyClassifier(nn.Module):
    """3 x 8 x 8 images, 8 x 2 x 2 features at ``pool``, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem: nn.Module = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, float [B, 3, 8, 8]."""
        features = self.stem(images)
        pooled = self.pool(self.norm(features)).flatten(1)
        return self.classifier(self.dropout(pooled))


class NormInFront(TinyClassifier):
    """The same network with an additional batch norm before the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv=self.stem, norm=nn.BatchNorm2d(8)))


class TinyAttention(nn.Module):
    """Attention with one head over tokens, float [B, T, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Float [B, T, D]."""
        queries, keys, values = self.qkv(tokens).chunk(3, 2)
        return self.proj((queries @ keys.transpose(1, 2)).softmax(2) @ values)


class TinyTransformer(nn.Module):
    """3 x 8 x 8 images, 4 tokens of 8 channels at ``attention``, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        convolution = nn.Conv2d(3, 8, 4, stride=4)
        self.stem = nn.Sequential(OrderedDict(conv=convolution, norm=nn.BatchNorm2d(8)))
        self.attention = TinyAttention(8)
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, float [B, 3, 8, 8]."""
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens)
        return self.classifier(self.dropout(tokens.mean(1)))


def classifier(model: str, pretrained: bool) -> nn.Module:
    """The one that a backbone names; the same weights at every call."""
    kinds = {"tiny": TinyClassifier, "norm_in_front": NormInFront, "attention": TinyTransformer}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kinds[model]()


TINY = Backbone(
    f"{__name__}:classifier",
    "tiny",
    "norm",
    preprocessing=Preprocessing(SIZE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    block_length=4,
)
NORM_IN_FRONT = replace(TINY, model="norm_in_front")
ATTENTION = replace(TINY, model="attention", cut="attention")


def tiny_network(
    dropout: float = 0.0, norm_in_front: bool = False, attention: bool = False
) -> SplitNetwork:
    """The same weights at every call; files of learners find it by name.

    Args:
        dropout: dropout of the tail.
        norm_in_front: with a batch norm before the cut.
        attention: with a tail of attention, and a batch norm before the cut.
    """
    name = "ATTENTION" if attention else "NORM_IN_FRONT" if norm_in_front else "TINY"
    return deepcopy(_built(dropout, name))


@cache
def _built(dropout: float, name: str) -> SplitNetwork:
    # Splitting a network takes seven times as long as copying one.
    backbone: Backbone = globals()[name]
    config = NetworkConfig(f"{__name__}:{name}", backbone.cut, "random", dropout)
    return SplitNetwork(classifier(backbone.model, False), backbone, config)


def images_of(label: int, count: int, seed: int = 0) -> Tensor:
    """uint8 [count, 3, 8, 8]; each class has a colour of its own."""
    generator = torch.Generator().manual_seed(1000 * label + seed)
    noise = torch.randint(0, 60, (count, 3, SIZE, SIZE), generator=generator)
    colour = torch.tensor([[40, 90, 160][(label + channel) % 3] for channel in range(3)])
    offset = 30 * (label // 3)
    return (noise + colour.view(1, 3, 1, 1) + offset).clamp(0, 255).to(torch.uint8)


def batch_of(learner: Any, *labels: int, seed: int = 0, first: bool = True) -> Batch:
    """One image of each label, others for other seeds, with its features."""
    pixels = torch.cat([images_of(label, 1, seed + place) for place, label in enumerate(labels)])
    return Batch(torch.tensor(labels), learner.network.features(pixels), pixels, first)


class Task:
    """Batches of fixed content that count how often they are read."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches, self.batch_size, self.reads = batches, len(batches[0]), 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        self.reads += 1
        return iter(self.batches)

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """The same frames in a random order, in batches."""
        self.reads += 1
        labels = torch.cat([batch.labels for batch in self.batches])
        features = torch.cat([batch.features for batch in self.batches])
        order = torch.randperm(len(labels), generator=generator)
        parts = order.split(self.batch_size)
        return iter([Batch(labels[part], features[part], first_pass=False) for part in parts])
