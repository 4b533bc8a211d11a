"""What describes a network: its input, where it comes from, where it is cut."""

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
"""Number of the way from pixels to the input of a front, and from there to features; to be raised
whenever other numbers come out, as features are kept under it."""


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the input of a front.

    Attributes:
        size: images are resized to ``size`` x ``size`` pixels.
        mean: per channel, subtracted from values in [0, 1].
        std: per channel, divides the result.
        resize: what becomes of the aspect ratio of images; of a learner that was trained on a data
            set that data set's.
        interpolation: filter with which images are resized, as in the network's own training.
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    resize: Resize = "crop"
    interpolation: Interpolation = "bilinear"

    @property
    def square(self) -> tuple[int, Resize, Interpolation]:
        """How images become square: side, aspect ratio and filter."""
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
        library: ``torchvision``, ``timm``, or MODULE:FUNCTION of another package, which is called
            with ``model`` and whether weights are to be the pretrained ones, and returns the whole
            classifier.
        model: the network's name there.
        cut: dotted name of the first layer of the tail.
        head_kernel: side of the head's kernel where the head is a convolution.
        preprocessing: of the images.
        initialiser: of the codebook, where none is asked for.
        block_length: of the codebook, where none is asked for.
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
"""How weights begin that are downloaded from the Hugging Face hub."""


def is_file(weights: str) -> bool:
    """Whether weights come from a file of the user's."""
    return weights not in ("pretrained", "random") and not weights.startswith(HUB)


@dataclass(frozen=True)
class NetworkConfig:
    """Which network, cut where, with which weights."""

    backbone: str = "efficientnet_lite0"
    """One that crumb backbones lists, any torchvision or timm name, or one of an installed package
    (MODULE:NAME as well)."""
    cut: str | None = None
    """Dotted name of the first layer of the trainable tail; known for those that crumb backbones
    lists."""
    weights: str = "pretrained"
    """pretrained, random, the path of a .safetensors or .pth state of the network, or
    hf-hub:OWNER/NAME of a network of timm on the Hugging Face hub."""
    dropout: float | None = None
    """Dropout probability in the tail; the network's own by default."""
    trainable: Literal["tail", "all"] = "tail"
    """What is trained: what follows the cut, or the whole network. With all, nothing can be
    computed once and replayed features would be pixels."""
    engine: EngineName = "auto"
    """What computes the part before the cut on a CPU. auto is the fastest one that is installed
    and gives the same features up to rounding; it is measured once on each machine."""

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise InputError(
                setting("dropout", self.dropout), "is not a probability", "give 0 <= P < 1"
            )

    @property
    def weights_file(self) -> Path | None:
        """Absolute path of the file that the weights come from, if they come from one."""
        return Path(self.weights).absolute() if is_file(self.weights) else None
