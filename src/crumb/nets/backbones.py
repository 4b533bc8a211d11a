"""The backbones that Crumb knows by name, and how any other is built."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from crumb import plugins
from crumb.data.resize import Interpolation
from crumb.errors import InputError, setting, shown
from crumb.nets.config import Backbone, NetworkConfig, Preprocessing
from crumb.nets.known import BACKBONES
from crumb.nets.split import SplitNetwork
from crumb.nets.weights import load_weights


def find_backbone(name: str, cut: str | None = None) -> Backbone:
    """The entry of a name that is known, or a new one for any torchvision or timm name.

    Args:
        name: known to Crumb, of an entry point in the group ``crumb.backbones`` of another package
            (which is a :class:`Backbone`), MODULE:NAME of one, or a name that torchvision or timm
            lists (torchvision first).
        cut: overrides the cut that is known; needed for names of torchvision and timm.

    Raises:
        InputError: no such network, or no cut for one of torchvision or timm.
    """
    known = _known(name) or _find_elsewhere(name)
    layer = cut or known.cut
    if not layer:
        raise InputError(
            setting("backbone", name),
            "has no cut of its own",
            f"name the tail's first layer with {setting('cut')}",
        )
    return Backbone(**{**vars(known), "cut": layer})


def _known(name: str) -> Backbone | None:
    """The entry of a name of ours, or of another package."""
    if name in BACKBONES:
        return BACKBONES[name]
    found = plugins.find(plugins.BACKBONES, name)
    if found is not None and not isinstance(found, Backbone):
        problem = f"is {shown(found)}, no description of a backbone"
        raise InputError(setting("backbone", name), problem, "make it a crumb.nets.config.Backbone")
    return found


def _find_elsewhere(name: str) -> Backbone:
    import timm
    import torchvision

    vision = torchvision.models.list_models(torchvision.models)
    if name in vision:
        return Backbone("torchvision", name, "", preprocessing=_of_torchvision_weights(name))
    if timm.is_model(name):
        return Backbone("timm", name, "", preprocessing=_of_timm_weights(name))
    # Some names are in two of the lists.
    own = [*BACKBONES, *plugins.names(plugins.BACKBONES)]
    names = list(dict.fromkeys([*own, *vision, *timm.list_models()]))
    near = difflib.get_close_matches(name, names, 4)
    raise InputError(
        setting("backbone", name),
        "is not a network of Crumb, torchvision or timm",
        f"did you mean {', '.join(near or BACKBONES)}?",
    )


def _of_torchvision_weights(name: str) -> Preprocessing:
    """What the pretrained weights of a torchvision network were trained with."""
    import torchvision

    weights = next(iter(torchvision.models.get_model_weights(name)), None)
    if weights is None:
        return Preprocessing()
    shown = weights.transforms()
    (red, green, blue), (r, g, b) = shown.mean, shown.std
    filtered = _interpolation(shown.interpolation.value)
    size = shown.crop_size[0]
    return Preprocessing(size, (red, green, blue), (r, g, b), interpolation=filtered)


def _of_timm_weights(name: str) -> Preprocessing:
    """The same of timm."""
    import timm

    defaults = timm.get_pretrained_cfg(name)
    if defaults is None:
        return Preprocessing()
    (red, green, blue), (r, g, b) = defaults.mean, defaults.std
    filtered, size = _interpolation(defaults.interpolation), defaults.input_size[-1]
    return Preprocessing(size, (red, green, blue), (r, g, b), interpolation=filtered)


def _interpolation(name: str) -> Interpolation:
    # Networks of no other filter are published; bilinear is the usual one.
    return "bicubic" if name == "bicubic" else "bilinear"


def settled(config: NetworkConfig) -> tuple[Backbone, NetworkConfig]:
    """The entry of a network, and its configuration with the cut; nothing is built.

    Raises:
        InputError: see :func:`find_backbone`; a cut of a network that is trained as a whole.
    """
    backbone = find_backbone(config.backbone, config.cut)
    if config.trainable == "tail" or _known(config.backbone) is None:
        return backbone, replace(config, cut=backbone.cut)
    if config.cut is not None:
        problem = (
            f"has no effect with {setting('trainable', 'all')}, which leaves nothing before it"
        )
        raise InputError(setting("cut", config.cut), problem, "leave one of them out")
    return backbone, config


def build_network(
    config: NetworkConfig, seed: int = 0, preprocessing: Preprocessing | None = None
) -> SplitNetwork:
    """Build a backbone, load its weights and split it.

    Args:
        config: the cut that was found is written back to the network's own ``config``.
        seed: of random weights.
        preprocessing: of images; that of the pretrained weights by default.

    Returns:
        the split network on the CPU, in eval mode, with the head that came with the weights.

    Raises:
        InputError: see :func:`settled`, :func:`load_weights`, :class:`SplitNetwork`.
    """
    backbone, config = settled(config)
    if preprocessing is not None:
        backbone = replace(backbone, preprocessing=preprocessing)
    own = plugins.is_reference(backbone.library)
    model = _create(backbone, seed, pretrained=own and config.weights == "pretrained")
    digest = None
    if not own or config.weights != "pretrained":
        size = backbone.preprocessing.size
        digest = load_weights(model, backbone.library, backbone.model, config.weights, size)
    network = SplitNetwork(model, backbone, config)
    network.weights_sha256 = digest
    network.eval()
    return network


def _create(backbone: Backbone, seed: int, pretrained: bool = False) -> nn.Module:
    # Both libraries draw initial weights from the global generator: lend it, then restore it.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if plugins.is_reference(backbone.library):
            return plugins.load(backbone.library)(backbone.model, pretrained)
        if backbone.library == "timm":
            return _of_timm(backbone.model)
        import torchvision

        # googlenet and inception would add a second head in training mode; their weights were
        # trained on pixels that the network itself rescales.
        special = {"aux_logits": False, "init_weights": True, "transform_input": True}
        extra = special if backbone.model in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(backbone.model, weights=None, **extra)


def _of_timm(name: str) -> nn.Module:
    import timm

    defaults = timm.get_pretrained_cfg(name)
    # Some are trained without classes, as DINOv2: they get a head to be replaced like the others'.
    bare = defaults is not None and not defaults.num_classes
    settings: dict[str, Any] = {"num_classes": 1000} if bare else {}
    model = timm.create_model(name, pretrained=False, **settings)
    if getattr(model, "dynamic_img_size", False):
        # What depends on the size of each image cannot be traced, and here all have one size.
        model = timm.create_model(name, pretrained=False, dynamic_img_size=False, **settings)
    return model
