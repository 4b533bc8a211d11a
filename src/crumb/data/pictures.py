"""Read image files as square uint8 arrays."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, _imaging

from crumb.data.heic import HEIC_REMEDY, is_heic, reads_heic
from crumb.data.metadata import with_less_metadata
from crumb.data.resize import Interpolation, Resize, to_square
from crumb.data.shards import member_size, open_image
from crumb.errors import InputError
from crumb.files import file_size

# Pillow also raises the errors that it logs. Without a handler they would be printed.
logging.getLogger("PIL").addHandler(logging.NullHandler())

DECODING = 1
"""Version of the image reader, part of the feature cache key. Raise it whenever pixels change.
``tests/data/test_pinned_pixels.py`` fails otherwise."""
_REPAIR = "repair or remove it, then index again"
# The largest images that Pillow reads take 1.4 GB uncompressed.
_LARGEST_FILE = 2**31
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_picture(
    path: Path, size: int, resize: Resize = "squash", interpolation: Interpolation = "bilinear"
) -> np.ndarray:
    """Read one image file.

    Args:
        path: image file in any format of Pillow, or HEIC with the extra ``heic``, identified by
            content. Only the first of several images is read. It is rotated according to its EXIF
            tag, and unreadable metadata is ignored. A JPEG of more than twice the size is decoded
            at a half, a quarter or an eighth of its resolution. The file may be inside a tar file
            (:mod:`crumb.data.shards`).
        size: side of the result.
        resize: how the image is made square (:func:`crumb.data.resize.to_square`).
        interpolation: name of the antialiased filter.

    Returns:
        uint8 [size, size, 3], RGB; see :func:`pil_to_square` for images that are not RGB.

    Raises:
        InputError: the file is missing, not a file, damaged, has more than 178,956,970 pixels
            (Pillow's limit) or pixels that :func:`pil_to_square` refuses.
    """
    if not check_image_file(path):
        raise InputError(path, "cannot be read as an image (it is empty)", _REPAIR)
    try:
        return _read(path, size, resize, interpolation)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(path, "cannot be read as an image (unknown format)", _REPAIR) from error
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(path, f"cannot be read as an image ({error})", _REPAIR) from error
    # Decoders of Pillow raise different errors on damaged files.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(path, f"is a damaged image ({reason})", _REPAIR) from error


def _read(path: Path, size: int, resize: Resize, interpolation: Interpolation) -> np.ndarray:
    """Read the pixels of a file, even if its metadata cannot be read."""
    try:
        with open_image(path) as file:
            return _decode(file, path, size, resize, interpolation)
    except InputError:
        raise
    # Damaged metadata can raise many errors.
    except Exception as error:
        with open_image(path) as file:
            content = file.read()
        for less in with_less_metadata(content):
            with contextlib.suppress(Exception):
                return _decode(io.BytesIO(less), path, size, resize, interpolation)
        raise error from None


def _decode(
    file: IO[bytes], path: Path, size: int, resize: Resize, interpolation: Interpolation
) -> np.ndarray:
    with _opened(file, path) as image:
        if image.format == "EPS":
            raise InputError(path, "is a PostScript program", "save it as PNG, then try again")
        if image.format == "TIFF":
            _quieten_tiff()
        image.draft("RGB", (size, size))
        pixels = pil_to_square(image, size, path, resize, interpolation)
    if image.format == "PNG":
        # Pillow stops after the last row, before the checksum that detects damage in it.
        file.seek(0)
        with Image.open(file) as image:
            image.verify()
    return pixels


def _opened(file: IO[bytes], path: Path) -> Image.Image:
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        if not is_heic(file.read(12)):
            raise
    if not reads_heic():
        raise InputError(path, "is a HEIC image", HEIC_REMEDY)
    file.seek(0)
    return Image.open(file)


def check_image_file(path: Path) -> int:
    """Bytes of a file or of a member of a tar file.

    Refuses paths that cannot be images without opening them.

    Raises:
        InputError: the path does not exist, is a folder, a pipe or a device, is larger than any
            readable image, or is in a tar file that cannot be read.
    """
    try:
        count = member_size(path)
        if count is None:
            count = file_size(path)
    except FileNotFoundError as error:
        problem = "is a link to nothing" if path.is_symlink() else "no such image"
        raise InputError(path, problem, _REPAIR) from error
    except OSError as error:
        problem = f"cannot be read as an image ({error.strerror})"
        raise InputError(path, problem, _REPAIR) from error
    if count > _LARGEST_FILE:
        problem = f"cannot be read as an image (it has {count} bytes)"
        raise InputError(path, problem, _REPAIR)
    return count


@cache
def _quieten_tiff() -> None:
    """Keep libtiff from printing errors that Pillow also raises, if it is a separate library."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def pil_to_square(
    image: Image.Image,
    size: int,
    name: object = "images",
    resize: Resize = "squash",
    interpolation: Interpolation = "bilinear",
) -> np.ndarray:
    """A Pillow image to uint8 [size, size, 3], RGB.

    Transparency is ignored: a pixel gets its stored colour, as in most loaders of training images.
    From 16 bits per channel, the upper eight are used.

    Args:
        image: image of any mode except I and F, whose pixels have no known range (Pillow would clip
            them at 255, so nearly all such images would be white). 16-bit PGM files are allowed.
        size: side of the result.
        name: name of the image, for the message.
        resize: how the image is made square.
        interpolation: name of the filter.

    Raises:
        InputError: the image is of mode I or F.
    """
    image.load()
    given = image.format
    turn = _UPRIGHT.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I;16") or (image.mode, given) == ("I", "PPM"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        problem = f"has pixels that are {kind}, of unknown range"
        raise InputError(name, problem, "convert it to 8 or 16 bits a channel, then try again")
    if image.mode == "P" and "transparency" in image.info:
        # Same colours as the direct conversion, but without its warning.
        image = image.convert("RGBA")
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(to_square(image, size, resize, interpolation))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, from 1 (upright) to 8; 1 if unreadable."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    # Damaged EXIF data can raise many errors.
    except Exception:
        return 1
    return value if isinstance(value, int) else 1
