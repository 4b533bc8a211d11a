"""The format of exported folders, which Crumb and crumb-lite both read and write.

======================  ==============================================================
file                    content
======================  ==============================================================
``model.json``          method, settings, input, versions; SHA-256 of these and the next two
``front.onnx``          the network up to what enters its head
``torch.safetensors``   the network for PyTorch; only for Crumb
``state.safetensors``   what a lesson changes: classes, statistics, stored features
``predict.onnx``        the network and the classifier in one; only for other programs
======================  ==============================================================

A lesson replaces ``state.safetensors`` alone, so a process that is killed leaves the old state or
the new one. crumb-lite has this module through a link. It may import nothing but NumPy and the
standard library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMAT, VERSION = "crumb-device", 1
MODEL, FRONT, PREDICT = "model.json", "front.onnx", "predict.onnx"
NETWORK, STATE = "torch.safetensors", "state.safetensors"
KEY = "crumb-device-state"
"""Key of the description in the metadata of ``state.safetensors``."""
BLOCKS = "blocks"
"""The memory blocks of stored features, float32 [256, 4]. Crumb draws them from the seed."""
LEARNER = "learner"
"""Key of the method, settings and input in ``model.json``, and of their SHA-256."""
INPUT, FEATURES, PROBABILITIES = "images", "features", "probabilities"
"""Names of the input and the outputs of the two networks."""
METHODS = ("slda", "ncm")
"""The methods that can be exported."""
TOLERANCE = 1e-3
"""Largest difference of a score from the stored one, as a share of the largest score."""
_GRAINS = (1, 8, 32)


def reference_images(size: int) -> np.ndarray:
    """Three generated images, uint8 [3, S, S, 3]: patches of 1, 8 and 32 pixels in all colours."""
    images = np.empty((len(_GRAINS), size, size, 3), np.uint8)
    places, colour = np.arange(size), np.arange(3)
    for image, grain in zip(images, _GRAINS, strict=True):
        row, column = (places // grain)[:, None, None], (places // grain)[:, None]
        image[:] = (31 * row**2 + 57 * column**2 + 17 * row * column + 89 * colour) % 251
    return images


def agrees(found: np.ndarray, expected: Sequence[Sequence[float | None]]) -> bool:
    """Whether scores, [n, classes], are the stored ones up to rounding.

    Args:
        found: computed now; minus infinity for a class without frames.
        expected: stored by :func:`as_lists`.
    """
    stored = np.array(expected, np.float64)
    stored[np.isnan(stored)] = -np.inf
    if found.shape != stored.shape or not np.array_equal(np.isfinite(found), np.isfinite(stored)):
        return False
    known = np.isfinite(stored)
    largest = np.abs(stored[known]).max(initial=1e-30)
    return bool((np.abs(found[known] - stored[known]) <= TOLERANCE * largest).all())


def as_lists(scores: np.ndarray) -> list[list[float | None]]:
    """Scores for JSON, which has no infinity."""
    return [[float(one) if np.isfinite(one) else None for one in row] for row in scores]


def digest_of(tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
    """SHA-256 of a state: its tensors by name, type, shape and value, and its description."""
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        found.update(f"\n{name} {value.dtype} {value.shape}\n".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
