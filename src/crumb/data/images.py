"""Images in, uint8 tensors out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from crumb.errors import InputError


def load_image(path: Path, size: int) -> Tensor:
    """Read one image file.

    Args:
        path: of any format that Pillow reads; turned upright by its EXIF tag. A JPEG of more than
            twice the size is decoded at half, a quarter or an eighth of its resolution.
        size: side of the result; the aspect ratio is ignored, as in the paper.

    Returns:
        uint8 [3, size, size], RGB, resized with an antialiased bilinear filter.

    Raises:
        InputError: missing, broken, or of more than 178,956,970 pixels (Pillow's own limit).
    """
    remedy = "repair or remove it, then index again"
    try:
        with Image.open(path) as image:
            image.draft("RGB", (size, size))
            return pil_to_tensor(image, size)
    except FileNotFoundError as error:
        raise InputError(path, "no such image", remedy) from error
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(path, f"cannot be read as an image ({error})", remedy) from error
    # Pillow's decoders raise these on damaged files.
    except (SyntaxError, ValueError, EOFError) as error:
        raise InputError(path, f"is a damaged image ({error})", remedy) from error


def pil_to_tensor(image: Image.Image, size: int) -> Tensor:
    """A Pillow image of any mode to uint8 [3, size, size]."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        # Pillow would clip at 255, which makes nearly every 16-bit image white.
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.mode == "P" and "transparency" in upright.info:
        # Same colours, without the warning that the shorter way gives.
        upright = upright.convert("RGBA")
    upright = upright.convert("RGB")
    if upright.size != (size, size):
        upright = upright.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous()


def as_images(inputs: Any, size: int) -> Tensor:
    """Images in any of the usual forms as one batch.

    Args:
        inputs: one image or a sequence of them: Pillow images, uint8 arrays [H, W, 3],
            tensors [3, H, W] (uint8, or floating point in [0, 1]), or one array or tensor with
            a leading batch dimension.
        size: side of the result.

    Returns:
        uint8 [B, 3, size, size].

    Raises:
        InputError: another type, shape or range, or no image at all.
    """
    several = isinstance(inputs, Iterable)
    if isinstance(inputs, (np.ndarray, Tensor)):
        several = inputs.ndim > 3
    images: Any = inputs if several else [inputs]
    batch = [_as_image(image, size) for image in images]
    if not batch:
        raise InputError("images", "an empty batch", "give at least one image")
    return torch.stack(batch)


def _as_image(image: Any, size: int) -> Tensor:
    shape = image.size if isinstance(image, Image.Image) else getattr(image, "shape", ())
    if 0 in shape:
        raise InputError("images", f"an image of shape {tuple(shape)}", "give at least one pixel")
    if isinstance(image, Image.Image):
        return pil_to_tensor(image, size)
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3:
            raise InputError("images", f"a tensor of shape {tuple(image.shape)}", "give [3, H, W]")
        array = _bytes_of(image.detach().cpu()).permute(1, 2, 0).numpy()
    elif isinstance(image, np.ndarray):
        array = image
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
            raise InputError(
                "images",
                f"an array of shape {array.shape} and type {array.dtype}",
                "give uint8 [H, W, 3]",
            )
    else:
        raise InputError(
            "images", f"a {type(image).__name__}", "give Pillow images, numpy arrays or tensors"
        )
    return pil_to_tensor(Image.fromarray(np.ascontiguousarray(array)), size)


def _bytes_of(image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point():
        raise InputError(
            "images", f"a tensor of type {image.dtype}", "give uint8 or float in [0, 1]"
        )
    if not (image.min() >= 0 and image.max() <= 1):
        raise InputError(
            "images", "float values outside [0, 1]", "give pixels before normalisation"
        )
    return (image * 255).round().to(torch.uint8)


def load_images(folder: Path, paths: Sequence[str], size: int) -> Tensor:
    """Read image files, uint8 [B, 3, size, size]; errors as :func:`load_image`."""
    return torch.stack([load_image(folder / path, size) for path in paths])
