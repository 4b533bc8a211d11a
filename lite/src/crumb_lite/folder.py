"""Exported folders on disk: read and checked, and the state written back whole."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from crumb_lite.errors import InputError
from crumb_lite.portable import (
    FORMAT,
    FRONT,
    KEY,
    LEARNER,
    METHODS,
    MODEL,
    PREDICT,
    STATE,
    VERSION,
    digest_of,
    sha256_of,
)

_REMEDY = "export the model again"
_KINDS: dict[str, type] = {
    "method": str,
    "config": dict,
    "size": int,
    "resize": str,
    "interpolation": str,
    "seed": int,
}
_SETTINGS = {
    "slda": ("budget_bytes", "classes_expected", "transform", "shrinkage", "prior_frames"),
    "ncm": ("budget_bytes", "classes_expected", "transform"),
}
"""Settings that each method needs here."""
Tensors = dict[str, np.ndarray]


@dataclass
class State:
    """What a lesson changes.

    Attributes:
        tensors: all arrays by name.
        about: classes, temperature, reach, and scores of the generated images.
        sha256: of both, as in the file.
    """

    tensors: Tensors
    about: dict[str, Any]
    sha256: str


def read_learner(folder: Path) -> dict[str, Any]:
    """What ``model.json`` says of the learner; ``front.onnx`` is checked against it.

    Returns:
        method, config, size, resize, interpolation and seed, among others.

    Raises:
        InputError: a file is missing or damaged, or of another format version.
    """
    path, front = folder / MODEL, folder / FRONT
    try:
        manifest = json.loads(path.read_text("utf-8"))
        known = (manifest["format"], manifest["version"]) == (FORMAT, VERSION)
        learner, digests = manifest[LEARNER], manifest["sha256"]
        known = known and learner["method"] in METHODS
        whole = not known or (digest_of({}, learner) == digests[LEARNER] and _is_complete(learner))
        intact = digests[FRONT] == sha256_of(front)
    except OSError as error:
        raise InputError(error.filename, f"cannot be read ({error.strerror})", _REMEDY) from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(path, "is damaged or of another format", _REMEDY) from error
    if not known:
        raise InputError(path, "is of another format version", "update crumb-lite")
    if not whole:
        raise InputError(path, "is damaged: its settings are not those of the export", _REMEDY)
    if not intact:
        raise InputError(front, "is damaged: its SHA-256 differs", _REMEDY)
    return learner


def _is_complete(learner: dict[str, Any]) -> bool:
    """Whether everything is there that a model takes from its description."""
    return all(isinstance(learner[key], kind) for key, kind in _KINDS.items()) and all(
        name in learner["config"] for name in _SETTINGS[learner["method"]]
    )


def read_state(folder: Path) -> State:
    """Read ``state.safetensors``.

    Raises:
        InputError: it is missing or damaged.
    """
    path = folder / STATE
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads((file.metadata() or {})[KEY])
        expected = about.pop("sha256")
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise InputError(path, problem, _REMEDY) from error
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(path, "is damaged", _REMEDY) from error
    if digest_of(tensors, about) != expected:
        raise InputError(path, "is damaged: its SHA-256 differs", _REMEDY)
    return State(tensors, about, expected)


def write_state(folder: Path, tensors: Tensors, about: dict[str, Any], before: State) -> State:
    """Replace ``state.safetensors`` as a whole. Remove ``predict.onnx``, which becomes outdated.

    This waits while ``crumb teach`` or another process changes the folder.

    Args:
        folder: the exported folder.
        tensors: all arrays.
        about: classes, temperature, reach and reference.
        before: the state that was read.

    Raises:
        InputError: another process has changed the state meanwhile, or it cannot be written.
    """
    about = json.loads(json.dumps(about))
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    after = State(tensors, about, digest_of(tensors, about))
    meta = {KEY: json.dumps(about | {"sha256": after.sha256})}
    try:
        with _locked(folder / STATE):
            if read_state(folder).sha256 != before.sha256:
                problem = "was changed by another process"
                raise InputError(folder / STATE, problem, "load the folder again")
            _replace(folder / STATE, save(tensors, meta), outdated=folder / PREDICT)
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise InputError(folder, problem, "make it writable or free space") from error
    return after


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a file as ``crumb.locks.locked`` does; waits until no other process has the lock."""
    # Systems without this module can still predict.
    import fcntl

    with path.open("rb") as file:
        # Some file systems have no locks.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _replace(path: Path, content: bytes, outdated: Path) -> None:
    """Write a file under another name, wait for the disk, and rename it.

    Another file is removed before the renaming, so an interruption does not leave it outdated.
    """
    handle, temporary = tempfile.mkstemp(".part", f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        outdated.unlink(missing_ok=True)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        os.unlink(temporary)  # noqa: PTH108
        raise
