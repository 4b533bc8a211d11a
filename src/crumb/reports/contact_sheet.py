"""A picture of a data set: a row of frames for each class."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from crumb.data.images import load_image
from crumb.data.index import Dataset
from crumb.data.names import canonical
from crumb.data.spacing import evenly
from crumb.errors import InputError, require
from crumb.files import write_bytes
from crumb.typefaces import own_typeface, runs

MAX_ROWS = 40
"""Classes that are shown where none are named."""
MAX_FRAMES = 4000
"""Of a picture; one of so many takes 250 MB while it is drawn."""

# Pixels.
_FRAME, _GAP, _CAPTION, _LABEL, _MARGIN, _HEAD, _FOOT = 112, 10, 20, 176, 32, 104, 40
_RADIUS, _SMOOTH = 9, 4
# So wide that title and counts have room.
_MIN = 840
# Okabe and Ito's vermilion, which any colour vision tells from grey; the word says it as well.
_TEST, _TRAIN = "#D55E00", "#C3CBD6"
_INK, _FAINT, _RULE, _PAPER = "#1B2430", "#6A7686", "#E6EAF0", "#FFFFFF"


@dataclass(frozen=True)
class Sheet:
    """What a contact sheet shows.

    Attributes:
        shown: names of the classes, a row each.
        classes: how many there are to be shown.
    """

    shown: tuple[str, ...]
    classes: int

    @property
    def left_out(self) -> str | None:
        """What is not shown, in a sentence; None if every class is."""
        if len(self.shown) == self.classes:
            return None
        return f"{len(self.shown)} of {self.classes:,} classes are shown, in even steps"


def contact_sheet(
    dataset: Dataset, path: Path, columns: int = 12, classes: Sequence[str] = ()
) -> Sheet:
    """Draw frames of each class, in even steps over its objects and sessions, into a PNG.

    Frames are squeezed to squares, as networks see them; those of test sessions are framed in
    another colour and marked with a word. Without ``classes`` at most :data:`MAX_ROWS` are
    shown, in even steps over all.

    Args:
        dataset: indexed, with its images.
        path: of the PNG.
        columns: most frames of a class.
        classes: names of those to show, in this order.

    Raises:
        InputError: columns out of range, an unknown class, too many frames for one picture, an
            image that cannot be read, or the file cannot be written.
    """
    require("columns", columns, 1 <= columns <= 100, "from 1 to 100")
    if path.suffix.lower() != ".png":
        raise InputError(f"--output {path}", "is no PNG file", "give a name that ends in .png")
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
    """Names of the data set, in the order in which they were typed in some form of Unicode."""
    known = dataset.select(classes).class_names.values()
    forms = {canonical(name): name for name in known}
    return [name if name in known else forms[canonical(name)] for name in classes]


def choose_frames(index: pd.DataFrame, most: int) -> np.ndarray:
    """Rows of an index, int64, in even steps over objects, and over the sessions of each.

    Args:
        index: of one class, columns ``crumb.data.index.COLUMNS``.
        most: how many to choose; fewer come back where a clip has too few frames.

    Returns:
        positions of the rows, ordered by object, session and frame, none twice.
    """
    keys = index[["object", "session", "im_num"]].to_numpy()
    objects = np.unique(keys[:, 0])
    # A column each; an object may have several.
    of_columns = objects[np.arange(most) * len(objects) // most]
    if len(objects) > most:
        of_columns = objects[evenly(len(objects), most)]
    chosen, counts = np.unique(of_columns, return_counts=True)
    places: set[int] = set()
    for turn, (item, count) in enumerate(zip(chosen, counts, strict=True)):
        rows = np.flatnonzero(keys[:, 0] == item)
        sessions = np.unique(keys[rows, 1])
        # Each object starts a little later, so that those with one column show all sessions too.
        start = (turn + 0.5) / len(chosen)
        steps = ((np.arange(count) + start) * len(sessions) / count).astype(np.int64)
        for session, times in zip(*np.unique(sessions[steps], return_counts=True), strict=True):
            clip = rows[keys[rows, 1] == session]
            clip = clip[np.argsort(keys[clip, 2], kind="stable")]
            places.update(clip[evenly(len(clip), int(times))].tolist())
    found = np.array(sorted(places), dtype=np.int64)
    return found[np.lexsort(keys[found].T[::-1])]


def _tested(dataset: Dataset, index: pd.DataFrame) -> np.ndarray:
    """Which rows of an index are tested on, bool."""
    return np.isin(index["session"].to_numpy(), dataset.test_sessions)


def _of_index(dataset: Dataset) -> dict[int, str]:
    """Names of the classes that have images, by id, ascending."""
    present = np.unique(dataset.index["class"].to_numpy()).tolist()
    return {number: dataset.class_names[number] for number in present}


def _draw(dataset: Dataset, numbers: Sequence[int], columns: int, sheet: Sheet) -> Image.Image:
    """The picture, RGB."""
    width = max(_MIN, 2 * _MARGIN + _LABEL + columns * (_FRAME + _GAP) - _GAP)
    step = _FRAME + _CAPTION + _GAP
    foot = _FOOT if sheet.left_out else 0
    image = Image.new("RGB", (width, _HEAD + len(numbers) * step + foot + _MARGIN // 2), _PAPER)
    draw = ImageDraw.Draw(image)
    _head(draw, dataset, width)
    classes = dataset.index["class"].to_numpy()
    for place, number in enumerate(tqdm(numbers, desc="draw", unit="class", disable=None)):
        top = _HEAD + place * step
        of_class = dataset.index.iloc[np.flatnonzero(classes == number)]
        _label(draw, dataset.class_names[number], of_class, top)
        frames = of_class.iloc[choose_frames(of_class, columns)]
        tested = _tested(dataset, frames)
        for column, frame in enumerate(frames[["im_path", "object", "session"]].to_numpy()):
            name, item, session = frame
            left = _MARGIN + _LABEL + column * (_FRAME + _GAP)
            pixels = load_image(dataset.images / name, _FRAME, dataset.resize)
            picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            _frame(image, picture, (left, top), bool(tested[column]))
            text = f"{item} · {session}"
            _centred(draw, text, left + _FRAME / 2, top + _FRAME + 5, 11, _FAINT)
    if sheet.left_out:
        text = f"{sheet.left_out}; --classes names others."
        draw.text((_MARGIN, image.height - _FOOT), text, _FAINT, _font(14))
    return image


def _head(draw: ImageDraw.ImageDraw, dataset: Dataset, width: int) -> None:
    """Title and counts to the left, what the frames mean to the right, a rule below."""
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
    # The counts of a large data set leave no room for it on a narrow picture.
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
    """One frame with round corners; those of test sessions ringed and marked."""
    mask, ring = _shapes(tested)
    image.paste(picture, corner, mask)
    image.paste(ring, corner, ring)
    if tested:
        left, top = corner
        _centred(ImageDraw.Draw(image), "test", left + 19, top + 3, 12, _PAPER)


@cache
def _shapes(tested: bool) -> tuple[Image.Image, Image.Image]:
    """Where a frame with round corners is opaque, and the ring around it; both smooth."""
    side, radius = _FRAME * _SMOOTH, _RADIUS * _SMOOTH
    box = (0, 0, side - 1, side - 1)
    mask, ring = Image.new("L", (side, side)), Image.new("RGBA", (side, side))
    ImageDraw.Draw(mask).rounded_rectangle(box, radius, 255)
    draw = ImageDraw.Draw(ring)
    if tested:
        badge = (0, 0, 38 * _SMOOTH, 21 * _SMOOTH)
        # Round where it meets the corner of the frame, and where it lies in it.
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
    """A name in bold letters, which may be of any script."""
    x, y = float(corner[0]), corner[1] + _font(size, bold=True).getmetrics()[0]
    for part, path in runs(name):
        font = _font(size, True, path)
        draw.text((x, y), part, colour, font, anchor="ls")
        x += font.getlength(part)


def _length(name: str, size: int) -> float:
    return sum(_font(size, True, path).getlength(part) for part, path in runs(name))


@cache
def _font(size: int, bold: bool = False, path: Path | None = None) -> ImageFont.FreeTypeFont:
    """Of a file, or else of the typeface that comes with matplotlib."""
    return ImageFont.truetype(path or own_typeface(bold), size)
