"""Read images as uint8 tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from crumb.data.pictures import load_picture, pil_to_square
from crumb.data.resize import Interpolation, Resize
from crumb.errors import InputError


def load_image(
    path: Path, size: int, resize: Resize = "squash", interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Read one image file as :func:`crumb.data.pictures.load_picture` does.

    Returns:
        uint8 [3, size, size], RGB.
    """
    return _tensor(load_picture(path, size, resize, interpolation))


def pil_to_tensor(
    image: Image.Image,
    size: int,
    name: object = "images",
    resize: Resize = "squash",
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """A Pillow image to uint8 [3, size, size], as :func:`crumb.data.pictures.pil_to_square`."""
    return _tensor(pil_to_square(image, size, name, resize, interpolation))


def _tensor(square: np.ndarray) -> Tensor:
    return torch.from_numpy(square).permute(2, 0, 1).contiguous()


def as_images(
    inputs: Any, size: int, resize: Resize = "squash", interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Convert images in any usual form to one batch.

    Args:
        inputs: one image or a sequence of images: Pillow images, uint8 arrays [H, W, 3], or tensors
            [3, H, W] (uint8, or floating point in [0, 1]); or one array or tensor with a leading
            batch dimension.
        size: side of the result.
        resize: how images are made square.
        interpolation: name of the filter.

    Returns:
        uint8 [B, 3, size, size].

    Raises:
        InputError: the type, shape or range is invalid, or there is no image.
    """
    several = isinstance(inputs, Iterable)
    if isinstance(inputs, (Set, Mapping)):
        raise InputError("images", f"a {type(inputs).__name__}", "give a list, which has an order")
    if isinstance(inputs, Tensor):
        _refuse_no_values(inputs)
    if isinstance(inputs, (np.ndarray, Tensor)):
        several = inputs.ndim > 3
    images: Any = inputs if several else [inputs]
    batch = [_as_image(image, size, resize, interpolation) for image in images]
    if not batch:
        raise InputError("images", "an empty batch", "give at least one image")
    return torch.stack(batch)


def _as_image(image: Any, size: int, resize: Resize, interpolation: Interpolation) -> Tensor:
    if isinstance(image, Image.Image):
        _refuse_no_pixels(image.size)
        try:
            return pil_to_tensor(image, size, "images", resize, interpolation)
        except InputError:
            raise
        # Pillow reads a file only when its pixels are used, and may then raise many errors.
        except Exception as error:
            problem = f"an image that cannot be read ({error})"
            raise InputError("images", problem, "repair it, or leave it out") from error
    if isinstance(image, Tensor):
        _refuse_no_values(image)
        if image.ndim != 3 or image.shape[0] != 3:
            raise InputError("images", f"a tensor of shape {tuple(image.shape)}", "give [3, H, W]")
        _refuse_no_pixels(image.shape)
        pixels = _bytes_of(image.detach().cpu())
        if pixels.shape[1:] == (size, size):
            return pixels
        array = pixels.permute(1, 2, 0).numpy()
    elif isinstance(image, np.ndarray):
        array = image
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
            raise InputError(
                "images",
                f"an array of shape {array.shape} and type {array.dtype}",
                "give uint8 [H, W, 3]",
            )
        _refuse_no_pixels(image.shape)
        if array.shape[:2] == (size, size):
            # Copy the array, because torch warns about read-only arrays.
            return _tensor(np.array(array, order="C"))
    else:
        raise InputError(
            "images", f"a {type(image).__name__}", "give Pillow images, numpy arrays or tensors"
        )
    picture = Image.fromarray(np.ascontiguousarray(array))
    return pil_to_tensor(picture, size, "images", resize, interpolation)


def _refuse_no_pixels(shape: Sequence[int]) -> None:
    if 0 in shape:
        raise InputError("images", f"an image of shape {tuple(shape)}", "give at least one pixel")


def _refuse_no_values(image: Tensor) -> None:
    """Refuse a tensor that cannot be read element by element."""
    if image.layout != torch.strided or image.is_meta or image.is_nested or image.is_quantized:
        problem = "a tensor that is sparse, nested, quantised or without values"
        raise InputError("images", problem, "give a plain one")


def _bytes_of(image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image
    if image.is_floating_point() and image.dtype.itemsize < 4:
        # The operations below do not support all short dtypes.
        image = image.float()
    if not image.is_floating_point():
        raise InputError(
            "images", f"a tensor of type {image.dtype}", "give uint8 or float in [0, 1]"
        )
    if not (image.min() >= 0 and image.max() <= 1):
        raise InputError(
            "images", "float values outside [0, 1]", "give pixels before normalisation"
        )
    return (image * 255).round().to(torch.uint8)


def load_images(
    folder: Path,
    paths: Sequence[str],
    size: int,
    resize: Resize = "squash",
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Read image files, uint8 [B, 3, size, size]; errors as :func:`load_image`."""
    return torch.stack([load_image(folder / path, size, resize, interpolation) for path in paths])
