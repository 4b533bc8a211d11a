"""Read the pixels of clips and image files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from crumb.data.images import load_image, pil_to_tensor
from crumb.data.resize import Interpolation, Resize
from crumb.data.sets.folder_layout import IMAGES, medium
from crumb.data.video import frames_at_one_per_second
from crumb.errors import InputError

AnyPath = str | os.PathLike[str]


def is_path(what: Any) -> TypeGuard[AnyPath]:
    """Whether this names a file."""
    return isinstance(what, (str, os.PathLike))


def paths_in(what: Any) -> list[Path] | None:
    """The paths if this is a path or a list, tuple or array of paths, else None.

    Raises:
        InputError: paths and images are mixed.
    """
    if is_path(what):
        return [Path(what)]
    if isinstance(what, np.ndarray) and what.ndim == 1:
        what = what.tolist()
    if not isinstance(what, (list, tuple)) or not any(map(is_path, what)):
        return None
    if not all(map(is_path, what)):
        raise InputError("images", "are mixed with paths", "give a list of either")
    return [Path(path) for path in what]


def check_file(path: AnyPath) -> None:
    """Check that a path names a video or an image, without reading it.

    Raises:
        InputError: the file is missing, a folder, or neither by its name.
    """
    path = Path(path)
    try:
        folder, there = path.is_dir(), path.exists()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "check the path") from error
    if folder:
        raise InputError(path, "is a folder", "name the clips in it")
    if not there:
        raise InputError(path, "no such file", "check the path")
    if not medium(path.name):
        raise InputError(path, "is neither a video nor an image by its name", "rename it")


def pixels_of_file(
    path: AnyPath, size: int, resize: Resize, interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Read the frames of a clip, one per second, or one image.

    Args:
        path: a video or an image, identified by its suffix.
        size: side of the result.
        resize: how frames are made square.
        interpolation: name of the filter for an image. Frames of a clip always use bicubic.

    Returns:
        uint8 [frames, 3, size, size].

    Raises:
        InputError: the file is missing, neither a video nor an image, damaged, or has no frames.
    """
    check_file(path)
    path = Path(path)
    if medium(path.name) == IMAGES:
        return load_image(path, size, resize, interpolation)[None]
    frames = frames_at_one_per_second(path, size, resize)
    return torch.stack([pil_to_tensor(frame, size) for frame in frames])
