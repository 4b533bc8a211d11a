"""Read folders that :mod:`crumb.methods.exporting` and crumb-lite write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from crumb import portable
from crumb.errors import InputError
from crumb.files import read_json, read_metadata, read_tensors

if TYPE_CHECKING:
    from crumb.methods.base import Learner

_REMEDY = "export the model again"


def read_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description of a learner, as its file would hold them.

    Args:
        folder: written by ``crumb export``; its ONNX files need not be there.

    Raises:
        InputError: it is no such folder, a file is missing or damaged, or it is of another format
            version.
    """
    manifest = _manifest(folder)
    network = _checked(folder, manifest)
    path = folder / portable.STATE
    state, meta = read_tensors(path, _REMEDY)
    about, expected = _description(path, meta)
    # NumPy has no name for some types of torch, and no state has one of these.
    try:
        arrays = {name: value.numpy() for name, value in state.items()}
    except TypeError as error:
        raise InputError(path, "is damaged: it holds numbers of another type", _REMEDY) from error
    if portable.digest_of(arrays, about) != expected:
        raise InputError(path, "is damaged: its SHA-256 differs", _REMEDY)
    state.pop(portable.BLOCKS, None)
    return network | state, manifest[portable.LEARNER] | about | {"sha256": expected}


def state_sha256(folder: Path) -> str:
    """The SHA-256 of the state of an exported folder, as its file says.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / portable.STATE
    return _description(path, read_metadata(path, _REMEDY))[1]


def check_reference(learner: Learner, expected: Any, folder: Path) -> None:
    """Compare the scores of the generated images with the stored ones.

    Raises:
        InputError: they differ by more than rounding.
    """
    from crumb.methods.exporting import reference_scores

    if not portable.agrees(reference_scores(learner), expected):
        problem = "gives other scores here than where it was written"
        raise InputError(folder, problem, _REMEDY)


def _description(path: Path, meta: dict[str, str]) -> tuple[dict[str, Any], str]:
    """What the metadata of a state say of it, and its SHA-256."""
    try:
        about = json.loads(meta[portable.KEY])
        return about, about.pop("sha256")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(path, "is damaged: its description is unreadable", _REMEDY) from error


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / portable.MODEL
    if not path.exists():
        raise InputError(folder, "is a folder without model.json", "give a model file")
    manifest = read_json(path, _REMEDY)
    if manifest.get("format") != portable.FORMAT:
        raise InputError(path, "is not of a folder that crumb export wrote", "give a model file")
    if (version := manifest.get("version")) != portable.VERSION:
        raise InputError(path, f"has format version {version}", _REMEDY)
    digests, about = manifest.get("sha256"), manifest.get(portable.LEARNER)
    if not isinstance(digests, dict) or not isinstance(about, dict):
        raise InputError(path, "is damaged: its description is wrong", _REMEDY)
    if portable.digest_of({}, about) != digests.get(portable.LEARNER):
        raise InputError(path, "is damaged: the SHA-256 of its settings differs", _REMEDY)
    return manifest


def _checked(folder: Path, manifest: dict[str, Any]) -> dict[str, Tensor]:
    """The network and the generators for PyTorch, after checks of both networks."""
    tensors, _ = read_tensors(folder / portable.NETWORK, _REMEDY)
    # The front is optional, but a lesson makes predict.onnx from it.
    for path in (folder / portable.NETWORK, folder / portable.FRONT):
        if not path.exists():
            continue
        try:
            found = portable.sha256_of(path)
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise InputError(path, problem, _REMEDY) from error
        if found != manifest["sha256"].get(path.name):
            raise InputError(path, "is damaged: its SHA-256 differs", _REMEDY)
    return tensors
