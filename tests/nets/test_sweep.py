"""One network of every family of timm, with random weights and small images.

Depths and widths are cut down where a network allows it, so that the sweep takes seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import timm
import torch
from split_networks import images
from tests.rounding import assert_rounded, sums_of
from torch import Tensor

from crumb.errors import InputError
from crumb.methods import closed_form
from crumb.methods.registry import find_method
from crumb.nets.config import Backbone, NetworkConfig, Preprocessing
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class Case:
    """Where to cut a network, and how to make it small."""

    cut: str
    size: int = 64
    settings: dict[str, Any] = field(default_factory=dict)


def sized(side: int, **settings: Any) -> dict[str, Any]:
    """Settings of a network that must be told the side of its images."""
    return {"img_size": side, **settings}


SMALL = {"depth": 3, "embed_dim": 32, "num_heads": 2}
"""For a vision transformer."""

MAPS = {
    "test_byobnet": Case("stages.3"),
    "repvgg_a0": Case("stages.3", 32),
    "lambda_resnet26t": Case("stages.3", 32, sized(32)),
    "caformer_s18": Case("stages.3", 32),
    "poolformer_s12": Case("stages.3", 32),
    "test_coatnet": Case("stages.3", 64, sized(64)),
    "test_maxvit": Case("stages.3", 64, sized(64)),
    "test_convnext": Case("stages.3"),
    "cpubone_nano": Case("stages.3"),
    "csatv2": Case("stages.3", 64, {"dims": (16, 16, 32, 32)}),
    "darknet17": Case("stages.3", 32),
    "cspnext_tiny": Case("stages.3"),
    "davit_tiny": Case(
        "stages.3",
        64,
        {"depths": (1, 1, 1, 1), "embed_dims": (32, 32, 64, 64), "num_heads": (1, 1, 2, 2)},
    ),
    "densenet121": Case("features.denseblock4", 32),
    "dla46_c": Case("level5"),
    "test_nfnet": Case("stages.3"),
    "dpn48b": Case("features.conv2_1", 32, {"k_sec": (1, 1, 1, 1)}),
    "ese_vovnet19b_slim_dw": Case("stages.3"),
    "resnet10t": Case("layer4"),
    "edgenext_xx_small": Case("stages.3"),
    "test_efficientnet": Case("blocks.4"),
    "efficientvit_b0": Case("stages.3"),
    "efficientvit_m0": Case("stages.2", 224),
    "fasternet_t0": Case("stages.3"),
    "fastvit_sa12": Case("stages.3", 32, {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 32, 64)}),
    "mobilenetv3_small_050": Case("blocks.5"),
    "gcvit_xxtiny": Case("stages.3", 32, sized(32)),
    "ghostnet_050": Case("blocks.8", 32),
    "hardcorenas_a": Case("blocks.6", 32),
    "hgnetv2_b0": Case("stages.3"),
    "hrnet_w18_small": Case("final_layer", 32),
    "iformer_t": Case("stages.3"),
    "inception_next_atto": Case("stages.3", 32),
    "lcnetv2_small": Case("stages.3", 32),
    "legacy_seresnet18": Case("layer4", 32, {"layers": (1, 1, 1, 1)}),
    "lowformer_b0": Case("stages.3", 32),
    "test_mambaout": Case("stages.3"),
    "mobilevit_xxs": Case("stages.4"),
    "mobilevitv2_050": Case("stages.4", 32),
    "pvt_v2_b0": Case("stages.3", 64, {"depths": (1, 1, 1, 1)}),
    "regnetx_002": Case("s4"),
    "repghostnet_050": Case("blocks.8"),
    "resnest14d": Case("layer4", 32),
    "resnetv2_18": Case("stages.3", 32),
    "rexnet_100": Case("features.13"),
    "samvit_base_patch16_224": Case("blocks.2", 64, sized(64, depth=3, embed_dim=32, num_heads=2)),
    "sequencer2d_s": Case(
        "stages.3",
        64,
        sized(64, layers=(1, 1, 1, 1), embed_dims=(16, 32, 32, 32), hidden_sizes=(8, 8, 8, 8)),
    ),
    "shvit_s1": Case("stages.2"),
    "skresnet18": Case("layer4", 32, {"layers": (1, 1, 1, 1)}),
    "starnet_s050": Case("stages.3"),
    "swin_tiny_patch4_window7_224": Case(
        "layers.3",
        64,
        sized(64, window_size=2, embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
    ),
    "swinv2_tiny_window8_256": Case(
        "layers.3",
        64,
        sized(64, window_size=2, embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
    ),
    "swinv2_cr_tiny_224": Case(
        "stages.3", 64, sized(64, embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
    ),
    "tiny_vit_5m_224": Case(
        "stages.3",
        64,
        {"embed_dims": (16, 32, 32, 64), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)},
    ),
    "visformer_tiny": Case("stage3", 64, sized(64)),
    "vit_tiny_r_s16_p8_224": Case("patch_embed.proj", 64, sized(64)),
}

# Their last layer, which gives a part of the logits.
SEVERAL_HEADS = {
    "efficientformer_l1": (Case("stages.2", 224), "head_dist"),
    "efficientformerv2_s0": (Case("stages.3", 224), "head_dist"),
    "deit_tiny_distilled_patch16_224": (Case("blocks.2", 64, sized(64, **SMALL)), "head_dist"),
    "levit_128s": (Case("stages.2", 64, sized(64)), "head_dist.linear"),
    "levit_conv_128s": (Case("stages.2", 224), "head_dist.linear"),
    "repvit_m0_9": (Case("stages.3"), "head.head_dist.l"),
    "swiftformer_xs": (Case("stages.3"), "head_dist"),
    "volo_d1_224": (Case("network.2", 64, sized(64)), "aux_head"),
}

# The tokens that cross: how many, and how many of them come before those of patches.
TOKENS = {
    "aimv2_large_patch14_224": (Case("blocks.2", 56, sized(56, **SMALL)), 16, 0),
    "beit_base_patch16_224": (Case("blocks.2", 64, sized(64, **SMALL)), 17, 1),
    "cait_xxs24_224": (Case("blocks.2", 64, sized(64, **SMALL)), 16, 0),
    "convit_tiny": (Case("blocks.2", 64, sized(64, **SMALL)), 16, 0),
    "deit3_small_patch16_224": (Case("blocks.2", 64, sized(64, **SMALL)), 17, 1),
    "deit_tiny_patch16_224": (Case("blocks.2", 64, sized(64, **SMALL)), 17, 1),
    "eva02_tiny_patch14_224": (Case("blocks.2", 56, sized(56, **SMALL)), 17, 1),
    "flexivit_small": (Case("blocks.2", 64, sized(64, **SMALL)), 17, 1),
    "hiera_tiny_224": (
        Case("blocks.3", 64, sized(64, embed_dim=16, stages=(1, 1, 2, 1), num_heads=1)),
        16,
        0,
    ),
    "mixer_s32_224": (Case("blocks.7", 64, sized(64)), 4, 0),
    "mvitv2_tiny": (Case("stages.3", 32, sized(32)), 4, 0),
    "naflexvit_base_patch16_gap": (Case("blocks.2", 64, dict(SMALL)), 20, 4),
    "test_vit": (Case("blocks.1", 64, sized(64, dynamic_img_size=False)), 17, 1),
    "test_vit_relpos": (Case("blocks.1", 64, sized(64)), 16, 0),
    "vit_base_patch16_rope_reg1_gap_256": (Case("blocks.2", 64, sized(64, **SMALL)), 17, 1),
    "vit_base_patch16_siglip_224": (Case("blocks.2", 64, sized(64, **SMALL)), 16, 0),
    "vit_base_patch32_clip_224": (Case("blocks.2", 64, sized(64, **SMALL)), 5, 1),
    "vit_small_patch14_dinov2": (Case("blocks.2", 56, sized(56, **SMALL)), 17, 1),
    "vit_small_patch14_reg4_dinov2": (Case("blocks.2", 56, sized(56, **SMALL)), 21, 5),
    "vit_small_patch16_dinov3": (Case("blocks.2", 64, sized(64, **SMALL)), 21, 5),
    "xcit_nano_12_p16_224": (Case("blocks.2", 64, sized(64, **SMALL)), 16, 0),
}

# They do not say whether the tokens are in the order of the image.
UNORDERED = ("hiera_tiny_224", "mixer_s32_224")

WORKING = {**MAPS, **{name: case for name, (case, *_) in TOKENS.items()}}

# What else cannot be cut there.
OTHERS = {
    "coat_lite_tiny": (
        Case("serial_blocks4", 64, sized(64)),
        "the network never calls it on its own",
    ),
    "crossvit_9_240": (Case("blocks.1", 240), "the network cannot be traced there"),
    "efficientvim_m1": (Case("stages.1"), "2 values cross the cut"),
    "pit_ti_224": (
        Case("transformers.2", 64, sized(64)),
        "the value that crosses it is a tuple, not a tensor",
    ),
    "test_vit2": (Case("blocks.1", 64, sized(64)), "the network cannot be traced there"),
    "tnt_s_legacy_patch16_224": (
        Case("blocks.2", 64, sized(64, depth=3, embed_dim=32)),
        "2 values cross the cut",
    ),
    "twins_svt_small": (
        Case("patch_embeds.3", 64, sized(64, depths=(1, 1, 1, 1))),
        "the network cannot be traced there",
    ),
}


_ONE_HEAD = "^backbone='{}': its logits do not come from its last layer, {}, alone"
REFUSED = {
    **{name: (case, _ONE_HEAD.format(name, head)) for name, (case, head) in SEVERAL_HEADS.items()},
    **{name: (case, f"^cut='{case.cut}': {said}") for name, (case, said) in OTHERS.items()},
}


def split(name: str, case: Case) -> tuple[torch.nn.Module, SplitNetwork]:
    """The whole network and the split one, with the same layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if not timm.is_model(name):
            pytest.skip("this version of timm does not have it")
        model = timm.create_model(name, num_classes=5, **case.settings)
    backbone = Backbone("timm", name, case.cut, preprocessing=Preprocessing(case.size))
    return model, SplitNetwork(model, backbone, NetworkConfig(name, case.cut, "random"))


@pytest.mark.parametrize("name", WORKING)
def test_networks_are_split_and_trained(name: str, monkeypatch: pytest.MonkeyPatch):
    case = WORKING[name]
    model, network = split(name, case)
    pixels = images(3, case.size)
    features = network.features(pixels)
    with torch.no_grad():
        # Some heads are zeros at first.
        network.head.weight.normal_(generator=torch.Generator().manual_seed(1))
        whole, found = model(network.preprocessing(pixels)), network(features)
        entered, linear = network.penultimate(features), network(features, linear=True)
    assert whole.std() > 0
    assert features.shape == (3, *network.feature_shape)
    check_places(name, network)
    assert_rounded(found, whole, *sums_of(model))
    assert entered.shape == (3, network.penultimate_size)
    assert_rounded(linear, whole, *sums_of(network.tail))
    weights = network.head.weight.flatten(1)
    bias = 0 if network.head.bias is None else network.head.bias
    assert_rounded(entered @ weights.T + bias, whole, *sums_of(network.tail))
    before = torch.get_rng_state()
    describe(network, pixels, entered, monkeypatch)
    for method in ("er", "crumb"):
        learn(method, network, pixels)
    assert torch.equal(torch.get_rng_state(), before)


def check_places(name: str, network: SplitNetwork) -> None:
    """Tokens of the whole image are told from those of patches, which form a grid."""
    _, height, width = network.feature_shape
    if name in MAPS:
        assert (network.prefix_tokens, network.grid) == (0, (height, width))
        return
    _, tokens, prefix = TOKENS[name]
    side = math.isqrt(tokens - prefix)
    assert (height, width, network.prefix_tokens) == (tokens, 1, prefix)
    assert network.grid == (None if name in UNORDERED else (side, side))


def describe(
    network: SplitNetwork, pixels: Tensor, entered: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of slda, whose means are those of what enters the head."""
    # The basis of 2,048 directions takes seconds; test_subspace.py tests it.
    monkeypatch.setattr(closed_form, "directions", lambda weights, _: torch.eye(weights.shape[1]))
    kind = find_method("slda")
    learner = kind(network, kind.Config(transform="none", dimensions=8))
    learner.observe(pixels, ["cup", "duck", "cup"], batch_size=len(pixels))
    assert isinstance(learner, closed_form.ClosedForm)
    means = torch.stack([entered[::2].mean(0), entered[1]])[:, :8]
    # They are kept in 16 bits.
    allowed = 0.01 * float(means.abs().max())
    torch.testing.assert_close(learner.moments.mean_vectors(), means, rtol=0, atol=allowed)
    assert learner.scores(network.features(pixels)).isfinite().all()


def learn(method: str, network: SplitNetwork, pixels: Tensor) -> None:
    """One step of a method, which moves the head and leaves it finite."""
    chosen = find_method(method)
    own = {"blocks": 4, "block_length": 1} if method == "crumb" else {}
    learner = chosen(network, chosen.Config(write_policy="on-arrival", **own))
    start = network.head.weight.detach().clone()
    losses = learner.observe(pixels, ["cup", "duck", "cup"], batch_size=len(pixels))
    moved = network.head.weight
    assert all(loss == loss for loss in losses.values())
    assert moved.isfinite().all()
    assert not torch.equal(moved, start)


@pytest.mark.parametrize("name", REFUSED)
def test_networks_are_refused_in_one_line(name: str, capfd: pytest.CaptureFixture[str]):
    case, problem = REFUSED[name]
    with pytest.raises(InputError, match=f"{problem}.*; choose ") as caught:
        split(name, case)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_sixty_networks_of_forty_families_or_more():
    assert len(WORKING) >= 60
    families = {timm.models._registry._model_to_module[name] for name in WORKING}
    assert len(families) >= 40
