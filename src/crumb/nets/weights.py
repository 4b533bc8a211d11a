"""Load pretrained weights from a library or a local file."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from crumb.errors import InputError, setting
from crumb.files import bytes_of, file_size, read_tensors
from crumb.nets.config import HUB
from crumb.nets.probe import find_head
from crumb.nets.published import NO_DOWNLOAD, PACKAGES, Package, timm_state, torchvision_state

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
"""Exceptions that torch raises on a damaged file, depending on the damage."""

_REMEDY = NO_DOWNLOAD


def load_weights(
    model: nn.Module, library: str, name: str, weights: str, size: int = 224
) -> str | None:
    """Load ``weights`` into ``model``, in place.

    The classifier may be missing or have another shape, because it is replaced anyway. All other
    tensors must be there.

    Args:
        model: the whole classifier.
        library: ``torchvision`` or ``timm``.
        name: name of the network in that library.
        weights: ``pretrained``, ``random``, ``hf-hub:OWNER/NAME`` or a path.
        size: side of the images in pixels.

    Returns:
        the SHA-256 of weights that timm downloaded, because their owner may change them; else None.

    Raises:
        InputError: the file is missing, damaged, of another network or a pickle with code in it; or
            the download fails.
    """
    if weights == "random":
        return None
    digest = None
    if weights.startswith(HUB):
        state = timm_state(weights, weights)
        digest = sha256(state)
    elif weights == "pretrained" and (package := PACKAGES.get(name)) is not None:
        _load_by_order(model, read_state(package.file()), package)
        return None
    elif weights == "pretrained" and library == "torchvision":
        state = torchvision_state(name)
    elif weights == "pretrained":
        state = timm_state(name, f"{setting('weights', 'pretrained')} ({name})")
        digest = sha256(state)
    else:
        state = read_state(Path(weights))
    _load_by_name(model, state, weights, size)
    return digest


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict. Code in a .pth file is not run.

    Raises:
        InputError: the file is missing, damaged, not a state dict, or a pickle with code in it.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path, _REMEDY)[0]
    try:
        file_size(path)
        with warnings.catch_warnings():
            # The errors below replace torch's warnings.
            warnings.simplefilter("ignore")
            value = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _REMEDY) from error
    except pickle.UnpicklingError as error:
        raise InputError(
            path, "holds code or is not a weights file; nothing in it was run", _REMEDY
        ) from error
    except DAMAGE as error:
        raise InputError(path, "is not a complete weights file", _REMEDY) from error
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict) or not all(isinstance(item, Tensor) for item in value.values()):
        raise InputError(path, "does not hold a state dict", _REMEDY)
    return value


def _load_by_name(model: nn.Module, state: dict[str, Tensor], source: str, size: int) -> None:
    # Weights from before 2018 lack these counters, and fixed statistics do not need them.
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
    # For example, a sparse tensor cannot be copied into a dense one.
    except RuntimeError as error:
        raise InputError(source, f"cannot be used ({error})", _REMEDY) from error


def _fits(given: Tensor, own: Tensor) -> bool:
    return given.shape == own.shape and given.is_floating_point() == own.is_floating_point()


def _classifier_names(model: nn.Module, size: int) -> set[str]:
    try:
        head, _ = find_head(model.eval(), torch.zeros(1, 3, size, size), setting("weights"))
    # In this case no tensor may be missing.
    except InputError:
        return set()
    return {f"{head}.weight", f"{head}.bias"}


def _load_by_order(model: nn.Module, state: dict[str, Tensor], package: Package) -> None:
    """Load by order: the package has timm's tensors in timm's order, under other names."""
    given = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    own = {
        name: value
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    if [value.shape for value in given] != [value.shape for value in own.values()]:
        problem = f"its weights are not those of timm's {package.model}"
        raise InputError(package.name, problem, "install version 0.1.0 of the package")
    model.load_state_dict(dict(zip(own, given, strict=True)), strict=False)


def sha256(state: dict[str, Tensor]) -> str:
    """Digest of the names, dtypes, shapes and values of a state dict, in any order."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(bytes_of(value.cpu().contiguous()))
    return digest.hexdigest()
