"""Image files in, square uint8 arrays out."""

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
from crumb.data.resize import Resize, to_square
from crumb.data.shards import member_size, open_image
from crumb.errors import InputError
from crumb.files import file_size

# What Pillow logs as an error it also raises; without a handler it would be printed.
logging.getLogger("PIL").addHandler(logging.NullHandler())

DECODING = 1
"""Version of the image reader, part of the feature cache key. Raise it whenever pixels change.
``tests/data/test_pinned_pixels.py`` fails otherwise."""
_REPAIR = "repair or remove it, then index again"
# Uncompressed, the most pixels that Pillow reads have 1.4 GB.
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


def load_picture(path: Path, size: int, resize: Resize = "squash") -> np.ndarray:
    """Read one image file.

    Args:
        path: image file of any format of Pillow, or HEIC with the extra ``heic``, identified by
            content. Only the first of several images is read. It is turned upright by its EXIF
            tag; unreadable metadata is ignored. A JPEG of more than twice the size is decoded at
            half, a quarter or an eighth of its resolution. It may lie inside a tar file
            (:mod:`crumb.data.shards`).
        size: side of the result.
        resize: what becomes of the aspect ratio (:func:`crumb.data.resize.to_square`).

    Returns:
        uint8 [size, size, 3], RGB, resized with an antialiased bilinear filter; see
        :func:`pil_to_square` for images that are not RGB.

    Raises:
        InputError: missing, no file, broken, of more than 178,956,970 pixels (Pillow's own limit)
            or of pixels that :func:`pil_to_square` refuses.
    """
    if not check_image_file(path):
        raise InputError(path, "cannot be read as an image (it is empty)", _REPAIR)
    try:
        return _read(path, size, resize)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(path, "cannot be read as an image (unknown format)", _REPAIR) from error
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(path, f"cannot be read as an image ({error})", _REPAIR) from error
    # Each of Pillow's decoders has its own ways to fail on a damaged file.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(path, f"is a damaged image ({reason})", _REPAIR) from error


def _read(path: Path, size: int, resize: Resize) -> np.ndarray:
    """The pixels of a file; metadata that cannot be read is no reason to refuse them."""
    try:
        with open_image(path) as file:
            return _decode(file, path, size, resize)
    except InputError:
        raise
    # Each kind of metadata has its own ways to be broken.
    except Exception as error:
        with open_image(path) as file:
            content = file.read()
        for less in with_less_metadata(content):
            with contextlib.suppress(Exception):
                return _decode(io.BytesIO(less), path, size, resize)
        raise error from None


def _decode(file: IO[bytes], path: Path, size: int, resize: Resize) -> np.ndarray:
    with _opened(file, path) as image:
        if image.format == "EPS":
            raise InputError(path, "is a PostScript program", "save it as PNG, then try again")
        if image.format == "TIFF":
            _quieten_tiff()
        image.draft("RGB", (size, size))
        pixels = pil_to_square(image, size, path, resize)
    if image.format == "PNG":
        # Reading ends with the last row, before the check sum that tells damage in it.
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

    Refuses what need not be opened to see that it is no image.

    Raises:
        InputError: nothing is there, or a folder, a pipe, a device, or a file that is larger than
            any image that is read; or a tar file that cannot be read.
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
    """Keep libtiff from printing what Pillow raises as well, if it is a library of its own."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def pil_to_square(
    image: Image.Image, size: int, name: object = "images", resize: Resize = "squash"
) -> np.ndarray:
    """A Pillow image to uint8 [size, size, 3], RGB.

    Transparency is dropped: a pixel has the colour that is stored for it, however transparent it
    is, as in most loaders of training images. Of 16 bits a channel the upper eight are kept.

    Args:
        image: of any mode but I and F, whose pixels have no known range (Pillow would clip them at
            255, which makes nearly every such image white); 16-bit PGM files excepted.
        size: side of the result.
        name: of the image, for the message.
        resize: what becomes of the aspect ratio.

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
        # Same colours, without the warning that the shorter way gives.
        image = image.convert("RGBA")
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(to_square(image, size, resize))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, from 1 (upright) to 8; 1 if unreadable."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    # Each way of storing EXIF has its own ways to be broken.
    except Exception:
        return 1
    return value if isinstance(value, int) else 1
