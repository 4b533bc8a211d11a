"""Descriptions of a network: its input, its source and its cut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from crumb.data.resize import Interpolation, Resize
from crumb.errors import InputError, setting
from crumb.kinds import check_kinds

if TYPE_CHECKING:
    from torch import Tensor

PREPROCESSING = 1
"""Version of the computation from pixels to features. Raise it whenever the features change,
because it is part of the feature cache key."""


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the input of a front.

    Attributes:
        size: images are resized to ``size`` x ``size`` pixels.
        mean: per channel, subtracted from values in [0, 1].
        std: per channel, divides the result.
        resize: how images are made square. A learner trained on a data set uses the setting of that
            data set.
        interpolation: filter that resizes images, as in the training of the network.
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    resize: Resize = "crop"
    interpolation: Interpolation = "bilinear"

    @property
    def square(self) -> tuple[int, Resize, Interpolation]:
        """Arguments of resizing: size, aspect ratio rule and filter."""
        return self.size, self.resize, self.interpolation

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, size, size] to float32 of the same shape, in channels-last memory."""
        import torch

        values = images.to(memory_format=torch.channels_last, dtype=torch.float32)
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return values.div_(255).sub_(mean).div_(std)


@dataclass(frozen=True)
class Backbone:
    """How to build one network and where to cut it.

    Attributes:
        library: ``torchvision``, ``timm``, or MODULE:FUNCTION of another package. The function is
            called with ``model`` and a bool (whether to load pretrained weights), and returns the
            whole classifier.
        model: name of the network in that library.
        cut: dotted name of the first layer of the tail.
        head_kernel: kernel size of the head if it is a convolution.
        preprocessing: preprocessing of the images.
        initialiser: default initialiser of the codebook.
        block_length: default block length of the codebook.
    """

    library: str
    model: str
    cut: str
    head_kernel: int = 1
    preprocessing: Preprocessing = Preprocessing()
    initialiser: str = "normal_matched"
    block_length: int = 16


EngineName = Literal["torch", "onnxruntime", "openvino", "auto"]
"""See :mod:`crumb.nets.fronts`."""
HUB = "hf-hub:"
"""Prefix of weights that are downloaded from the Hugging Face hub."""


def is_file(weights: str) -> bool:
    """Whether the weights are the path of a file."""
    return weights not in ("pretrained", "random") and not weights.startswith(HUB)


@dataclass(frozen=True)
class NetworkConfig:
    """Settings of the network: backbone, cut, weights and engine."""

    backbone: str = "efficientnet_lite0"
    """A name that crumb backbones lists, any torchvision or timm name, or a backbone of an
    installed package (also as MODULE:NAME)."""
    cut: str | None = None
    """Dotted name of the first layer of the trainable tail. Backbones that crumb backbones lists
    have a default."""
    weights: str = "pretrained"
    """pretrained, random, the path of a state dict of the network (.safetensors or .pth), or
    hf-hub:OWNER/NAME for a timm network on the Hugging Face hub."""
    dropout: float | None = None
    """Dropout probability in the tail. Default: the network's own."""
    trainable: Literal["tail", "all"] = "tail"
    """What is trained: tail (the layers after the cut) or all (the whole network). With all, no
    features can be cached, and replayed features are pixels."""
    engine: EngineName = "auto"
    """Engine that computes the part before the cut on a CPU. auto uses the fastest installed engine
    whose features equal PyTorch's up to rounding, measured once per machine."""

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise InputError(
                setting("dropout", self.dropout), "is not a probability", "give 0 <= P < 1"
            )

    @property
    def weights_file(self) -> Path | None:
        """Absolute path of the weights file, or None."""
        return Path(self.weights).absolute() if is_file(self.weights) else None
