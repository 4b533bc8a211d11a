"""HEIC, the photo format of iPhones, which Pillow reads only with the extra ``heic``."""

from __future__ import annotations

from functools import cache

HEIC_SUFFIXES = (".heic", ".heif", ".hif")
HEIC_REMEDY = "install the reader with pip install 'crumb-learn[heic]' or save the image as JPEG"
_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])


def is_heic(start: bytes) -> bool:
    """Whether a file that begins with these bytes, at least 12, is a HEIC image."""
    return start[4:8] == b"ftyp" and start[8:12] in _BRANDS


@cache
def reads_heic() -> bool:
    """Whether HEIC can be read; from then on Pillow knows it."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False)
    return True
