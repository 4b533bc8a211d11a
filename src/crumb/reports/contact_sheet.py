"""A contact sheet of a data set: one row of frames per class."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from crumb.data.index import Dataset
from crumb.data.names import canonical
from crumb.data.pictures import load_picture
from crumb.data.spacing import evenly
from crumb.errors import InputError, require
from crumb.files import write_bytes
from crumb.progress import bar
from crumb.typefaces import own_typeface, runs

MAX_ROWS = 40
"""Maximum number of classes shown by default."""
MAX_FRAMES = 4000
"""Maximum number of frames of a picture; drawing it takes 250 MB."""

# Pixels.
_FRAME, _GAP, _CAPTION, _LABEL, _MARGIN, _HEAD, _FOOT = 112, 10, 20, 176, 32, 104, 40
_RADIUS, _SMOOTH = 9, 4
# Wide enough for title and counts.
_MIN_WIDTH = 840
# Okabe and Ito's vermilion, distinguishable from grey with any colour vision; a word marks it too.
_TEST, _TRAIN = "#D55E00", "#C3CBD6"
_INK, _FAINT, _RULE, _PAPER = "#1B2430", "#6A7686", "#E6EAF0", "#FFFFFF"


@dataclass(frozen=True)
class Sheet:
    """The contents of a contact sheet.

    Attributes:
        shown: names of the shown classes, one row each.
        classes: total number of classes.
    """

    shown: tuple[str, ...]
    classes: int

    @property
    def left_out(self) -> str | None:
        """A sentence on what is not shown; None if every class is shown."""
        if len(self.shown) == self.classes:
            return None
        return f"{len(self.shown)} of {self.classes:,} classes are shown, evenly spaced"


def contact_sheet(
    dataset: Dataset, path: Path, columns: int = 12, classes: Sequence[str] = ()
) -> Sheet:
    """Draw evenly spaced frames of each class into a PNG.

    Frames are squashed to squares, as networks see them. Frames of test sessions have a coloured
    border and a label. Without ``classes``, at most :data:`MAX_ROWS` evenly spaced classes are
    shown.

    Args:
        dataset: indexed data set with its images.
        path: PNG file to write.
        columns: maximum number of frames per class.
        classes: names of the classes to show, in this order.

    Raises:
        InputError: columns out of range, an unknown class, too many frames for one picture, an
            image that cannot be read, or the file cannot be written.
    """
    require("columns", columns, 1 <= columns <= 100, "from 1 to 100")
    if path.suffix.lower() != ".png":
        raise InputError(f"--output {path}", "is not a PNG file", "give a name that ends in .png")
    numbers = {name: number for number, name in _of_index(dataset).items()}
    names = _chosen(dataset, classes) if classes else list(numbers)
    if empty := [name for name in names if name not in numbers]:
        raise InputError("--classes", f"{empty[0]!r} has no image", "leave it out")
    shown = names if classes else [names[place] for place in evenly(len(names), MAX_ROWS)]
    if len(shown) * columns > MAX_FRAMES:
        problem = f"makes {len(shown) * columns:,} frames"
        remedy = f"name fewer, or give fewer --columns (at most {MAX_FRAMES:,} frames)"
        raise InputError("--classes", problem, remedy)
    sheet = Sheet(tuple(shown), len(names))
    image = _draw(dataset, [numbers[name] for name in shown], columns, sheet)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    write_bytes(path, content.getvalue())
    return sheet


def _chosen(dataset: Dataset, classes: Sequence[str]) -> list[str]:
    """Match typed class names, in any Unicode form, to names of the data set, in order."""
    known = dataset.select(classes).class_names.values()
    forms = {canonical(name): name for name in known}
    return [name if name in known else forms[canonical(name)] for name in classes]


def choose_frames(index: pd.DataFrame, most: int) -> np.ndarray:
    """Evenly spaced rows of an index, int64, over objects and over the sessions of each.

    Args:
        index: index of one class, columns ``crumb.data.index.COLUMNS``.
        most: number of rows to choose; fewer are returned if a clip has too few frames.

    Returns:
        distinct row positions, ordered by object, session and frame.
    """
    keys = index[["object", "session", "im_num"]].to_numpy()
    objects = np.unique(keys[:, 0])
    # One column each; an object may have several.
    of_columns = objects[np.arange(most) * len(objects) // most]
    if len(objects) > most:
        of_columns = objects[evenly(len(objects), most)]
    chosen, counts = np.unique(of_columns, return_counts=True)
    places: set[int] = set()
    for turn, (item, count) in enumerate(zip(chosen, counts, strict=True)):
        rows = np.flatnonzero(keys[:, 0] == item)
        sessions = np.unique(keys[rows, 1])
        # Each object starts at a later session, so that objects with one column cover all sessions.
        start = (turn + 0.5) / len(chosen)
        steps = ((np.arange(count) + start) * len(sessions) / count).astype(np.int64)
        for session, times in zip(*np.unique(sessions[steps], return_counts=True), strict=True):
            clip = rows[keys[rows, 1] == session]
            clip = clip[np.argsort(keys[clip, 2], kind="stable")]
            places.update(clip[evenly(len(clip), int(times))].tolist())
    found = np.array(sorted(places), dtype=np.int64)
    return found[np.lexsort(keys[found].T[::-1])]


def _tested(dataset: Dataset, index: pd.DataFrame) -> np.ndarray:
    """Mask of the test rows of an index, bool."""
    return np.isin(index["session"].to_numpy(), dataset.test_sessions)


def _of_index(dataset: Dataset) -> dict[int, str]:
    """Names of the classes with images, by ascending id."""
    present = np.unique(dataset.index["class"].to_numpy()).tolist()
    return {number: dataset.class_names[number] for number in present}


def _draw(dataset: Dataset, numbers: Sequence[int], columns: int, sheet: Sheet) -> Image.Image:
    """The picture, RGB."""
    width = max(_MIN_WIDTH, 2 * _MARGIN + _LABEL + columns * (_FRAME + _GAP) - _GAP)
    step = _FRAME + _CAPTION + _GAP
    foot = _FOOT if sheet.left_out else 0
    image = Image.new("RGB", (width, _HEAD + len(numbers) * step + foot + _MARGIN // 2), _PAPER)
    draw = ImageDraw.Draw(image)
    _head(draw, dataset, width)
    classes = dataset.index["class"].to_numpy()
    for place, number in enumerate(bar(numbers, "drawing", "class")):
        top = _HEAD + place * step
        of_class = dataset.index.iloc[np.flatnonzero(classes == number)]
        _label(draw, dataset.class_names[number], of_class, top)
        frames = of_class.iloc[choose_frames(of_class, columns)]
        tested = _tested(dataset, frames)
        for column, frame in enumerate(frames[["im_path", "object", "session"]].to_numpy()):
            name, item, session = frame
            left = _MARGIN + _LABEL + column * (_FRAME + _GAP)
            pixels = load_picture(dataset.images / name, _FRAME, dataset.resize)
            picture = Image.fromarray(pixels)
            _frame(image, picture, (left, top), bool(tested[column]))
            text = f"{item} · {session}"
            _centred(draw, text, left + _FRAME / 2, top + _FRAME + 5, 11, _FAINT)
    if sheet.left_out:
        text = f"{sheet.left_out}; choose others with --classes."
        draw.text((_MARGIN, image.height - _FOOT), text, _FAINT, _font(14))
    return image


def _head(draw: ImageDraw.ImageDraw, dataset: Dataset, width: int) -> None:
    """Draw title and counts on the left, the legend on the right, and a rule below."""
    tests = np.count_nonzero(_tested(dataset, dataset.index))
    counts = (
        f"{len(_of_index(dataset)):,} classes   {len(dataset.index):,} images: "
        f"{len(dataset.index) - tests:,} to train on, {tests:,} to test on"
    )
    _write(draw, (_MARGIN, 22), dataset.name, _INK, 28)
    draw.text((_MARGIN, 62), counts, _FAINT, _font(14))
    rule = _HEAD - 10
    draw.line((_MARGIN, rule, width - _MARGIN, rule), _RULE, 1)
    right = width - _MARGIN
    texts = (("tested on", _TEST, 3), ("trained on", _TRAIN, 2))
    for text, colour, line in texts:
        right -= round(_font(14).getlength(text))
        draw.text((right, 28), text, _INK, _font(14))
        right -= 24
        draw.rounded_rectangle((right, 29, right + 15, 44), 4, None, colour, line)
        right -= 22
    note = "below each frame: object · session"
    # On a narrow picture the counts of a large data set leave no room for it.
    if width - 2 * _MARGIN > _font(14).getlength(counts + note) + 20:
        draw.text((width - _MARGIN, 62), note, _FAINT, _font(14), anchor="ra")


def _label(draw: ImageDraw.ImageDraw, name: str, index: pd.DataFrame, top: int) -> None:
    """A class's name and counts, left of its frames."""
    room = _LABEL - 16
    while _length(name, 16) > room:
        name = f"{name.removesuffix('…')[:-1]}…"
    objects = len(np.unique(index["object"].to_numpy()))
    counts = (f"{objects:,} object{'s' if objects > 1 else ''}", f"{len(index):,} images")
    _write(draw, (_MARGIN, top + 22), name, _INK, 16)
    for line, text in enumerate(counts):
        draw.text((_MARGIN, top + 46 + 18 * line), text, _FAINT, _font(13))


def _frame(image: Image.Image, picture: Image.Image, corner: tuple[int, int], tested: bool) -> None:
    """Draw one frame with round corners, with border and label for test sessions."""
    mask, ring = _shapes(tested)
    image.paste(picture, corner, mask)
    image.paste(ring, corner, ring)
    if tested:
        left, top = corner
        _centred(ImageDraw.Draw(image), "test", left + 19, top + 3, 12, _PAPER)


@cache
def _shapes(tested: bool) -> tuple[Image.Image, Image.Image]:
    """Smooth masks of a frame with round corners and of the ring around it."""
    side, radius = _FRAME * _SMOOTH, _RADIUS * _SMOOTH
    box = (0, 0, side - 1, side - 1)
    mask, ring = Image.new("L", (side, side)), Image.new("RGBA", (side, side))
    ImageDraw.Draw(mask).rounded_rectangle(box, radius, 255)
    draw = ImageDraw.Draw(ring)
    if tested:
        badge = (0, 0, 38 * _SMOOTH, 21 * _SMOOTH)
        # Round both where it meets the corner of the frame and inside it.
        draw.rounded_rectangle(badge, radius, _TEST, corners=(True, False, True, False))
    colour, line = (_TEST, 4) if tested else (_TRAIN, 1)
    draw.rounded_rectangle(box, radius, None, colour, line * _SMOOTH)
    size = (_FRAME, _FRAME)
    smooth = Image.Resampling.BOX
    return mask.resize(size, smooth), ring.resize(size, smooth)


def _centred(
    draw: ImageDraw.ImageDraw, text: str, x: float, y: float, size: int, colour: str
) -> None:
    draw.text((x, y), text, colour, _font(size), anchor="ma")


def _write(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, colour: str, size: int
) -> None:
    """Draw a name in bold, in any script."""
    x, y = float(corner[0]), corner[1] + _font(size, bold=True).getmetrics()[0]
    for part, path in runs(name):
        font = _font(size, True, path)
        draw.text((x, y), part, colour, font, anchor="ls")
        x += font.getlength(part)


def _length(name: str, size: int) -> float:
    return sum(_font(size, True, path).getlength(part) for part, path in runs(name))


@cache
def _font(size: int, bold: bool = False, path: Path | None = None) -> ImageFont.FreeTypeFont:
    """Font of a file, or else matplotlib's default."""
    return ImageFont.truetype(path or own_typeface(bold), size)
