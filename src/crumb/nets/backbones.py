"""Find a backbone by name, and build it."""

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
    """Find the entry of a known backbone, or make one for any torchvision or timm name.

    Args:
        name: a backbone of Crumb, an entry point of another package in the group
            ``crumb.backbones`` (its value is a :class:`Backbone`), MODULE:NAME of a
            :class:`Backbone`, or a name that torchvision or timm lists (torchvision first).
        cut: overrides the known cut. Names of torchvision and timm need it.

    Raises:
        InputError: there is no such network, or a network of torchvision or timm has no cut.
    """
    known = _known(name) or _find_elsewhere(name)
    layer = cut or known.cut
    if not layer:
        raise InputError(
            setting("backbone", name),
            "has no default cut",
            f"name the tail's first layer with {setting('cut')}",
        )
    return Backbone(**{**vars(known), "cut": layer})


def _known(name: str) -> Backbone | None:
    """The entry of a backbone of Crumb or of another package, or None."""
    if name in BACKBONES:
        return BACKBONES[name]
    found = plugins.find(plugins.BACKBONES, name)
    if found is not None and not isinstance(found, Backbone):
        problem = f"is {shown(found)}, not a description of a backbone"
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
    # Some names are in two lists.
    own = [*BACKBONES, *plugins.names(plugins.BACKBONES)]
    names = list(dict.fromkeys([*own, *vision, *timm.list_models()]))
    near = difflib.get_close_matches(name, names, 4)
    raise InputError(
        setting("backbone", name),
        "is not a network of Crumb, torchvision or timm",
        f"did you mean {', '.join(near or BACKBONES)}?",
    )


def _of_torchvision_weights(name: str) -> Preprocessing:
    """The preprocessing with which torchvision trained the pretrained weights."""
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
    """The preprocessing with which timm trained the pretrained weights."""
    import timm

    defaults = timm.get_pretrained_cfg(name)
    if defaults is None:
        return Preprocessing()
    (red, green, blue), (r, g, b) = defaults.mean, defaults.std
    filtered, size = _interpolation(defaults.interpolation), defaults.input_size[-1]
    return Preprocessing(size, (red, green, blue), (r, g, b), interpolation=filtered)


def _interpolation(name: str) -> Interpolation:
    # Published networks use no other filter, and bilinear is the usual one.
    return "bicubic" if name == "bicubic" else "bilinear"


def settled(config: NetworkConfig) -> tuple[Backbone, NetworkConfig]:
    """Find the entry of a network and complete its configuration, without building it.

    Raises:
        InputError: see :func:`find_backbone`; or a cut is given for a network that is trained as a
            whole.
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
        config: configuration of the network. The network's ``config`` holds it with the cut that
            was found.
        seed: seed of random weights.
        preprocessing: preprocessing of images; by default that of the pretrained weights.

    Returns:
        the split network on the CPU, in eval mode, with its pretrained head.

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
    # Both libraries draw initial weights from the global generator, so it is restored.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if plugins.is_reference(backbone.library):
            return plugins.load(backbone.library)(backbone.model, pretrained)
        if backbone.library == "timm":
            return _of_timm(backbone.model)
        import torchvision

        # By default, googlenet and inception add a second head in training mode, and rescale
        # pixels.
        special = {"aux_logits": False, "init_weights": True, "transform_input": True}
        extra = special if backbone.model in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(backbone.model, weights=None, **extra)


def _of_timm(name: str) -> nn.Module:
    import timm

    defaults = timm.get_pretrained_cfg(name)
    # Networks without a classifier, such as DINOv2, get a head that is replaced like any other.
    bare = defaults is not None and not defaults.num_classes
    settings: dict[str, Any] = {"num_classes": 1000} if bare else {}
    model = timm.create_model(name, pretrained=False, **settings)
    if getattr(model, "dynamic_img_size", False):
        # Code that depends on the size of each image cannot be traced. Here all images have one
        # size.
        model = timm.create_model(name, pretrained=False, dynamic_img_size=False, **settings)
    return model
