"""CORe50's sampled index, which follows from the data set's regular file names alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd

from crumb.data.index import COLUMNS, Dataset

CLASS_NAMES = {
    1: "plug_adapter",
    2: "mobile_phone",
    3: "scissors",
    4: "light_bulb",
    5: "can",
    6: "glasses",
    7: "ball",
    8: "marker",
    9: "cup",
    10: "remote_control",
}
TEST_SESSIONS = (3, 7, 10)
_OBJECTS, _OBJECTS_PER_CLASS, _SESSIONS = 50, 5, 11
# One frame a second of the 20 frames a second; from 10 since some clips lack earlier frames.
_FRAMES = range(10, 300, 20)


def core50_index() -> pd.DataFrame:
    """The sampled index as published: 8,250 rows, 15 frames of each of 11 sessions of 50 objects.

    im_path is relative to the folder of the 128x128 images (``s8/o12/C_08_12_070.png``). No image
    is needed.
    """
    clips = itertools.product(range(1, _OBJECTS + 1), range(1, _SESSIONS + 1), _FRAMES)
    rows = [
        (
            (item - 1) // _OBJECTS_PER_CLASS + 1,
            item,
            session,
            frame,
            f"s{session}/o{item}/C_{session:02}_{item:02}_{frame:03}.png",
        )
        for item, session, frame in clips
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def core50_dataset(images: Path) -> Dataset:
    """CORe50 with its 128x128 images below ``images`` (folders s1 to s11)."""
    return Dataset("core50", images, images, core50_index(), dict(CLASS_NAMES), TEST_SESSIONS)
