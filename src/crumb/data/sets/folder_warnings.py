"""Warn about test data that is also in the training data."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from crumb.data.sets.folder_layout import IMAGES, VIDEOS
from crumb.data.sets.folder_split import Clip, Part, Split, one_each
from crumb.errors import InputError
from crumb.progress import bar

_SIDE, _BLOCK = 16, 4
# Largest root mean square difference of copies at 16 x 16 pixels, in levels of 0 to 255. Measured
# on 60 images of eth80 and 60 frames of devset. Thumbnails of JPEG quality 75 differ from the
# original by 2.8 (median) and 4.3 (maximum) at 64 pixels, 1.6 and 2.5 at 96, 1.2 and 1.5 at 128. At
# quality 30 it is 4.9 and 8.1, 3.2 and 5.1, 2.6 and 3.3. Of neighbouring views of one object 0.7 %
# differ by less than 4.5, and none by less than 2. Views have the same size as each other, and
# thumbnails differ in size from the original. So the limit is lower for images of the same size.
_MAX_APART, _MAX_APART_IN_SIZE = 4.5, 2.0
# Compression changes low-contrast images less: 1.5 if the contrast is reduced to a tenth.
_APART, _APART_BY_CONTRAST = 1.0, 0.1
_CANDIDATES = 8
_MAX_IMAGES = 200_000


def warnings(kind: str, clips: Sequence[Clip], tested: Sequence[bool], split: Split) -> list[str]:
    """One line for each way in which the split alone leaks training data into the test data."""
    if split == "image":
        lead = "every class has one session, so its last images are tested on; " * one_each(clips)
        if kind == VIDEOS:
            return [f"{lead}they resemble those before them: on unseen clips expect less accuracy"]
        return [f"{lead}unless they are single photos, on unseen sessions expect less accuracy"]
    lines = []
    if split == "given" and kind == IMAGES:
        sides: defaultdict[tuple[str, str, str], set[bool]] = defaultdict(set)
        for clip, is_test in zip(clips, tested, strict=True):
            sides[clip.class_name, clip.object, clip.session].add(is_test)
        if both := [key for key, found in sides.items() if len(found) > 1]:
            where = "/".join(filter(None, both[0]))
            lines.append(
                f"{where} is in both train and test; if these are frames of one clip, accuracy "
                "looks better than it is"
            )
    return lines


def same_on_both_sides(root: Path, kind: str, parts: Sequence[Part], workers: int) -> list[str]:
    """A line if test data are also training data.

    Videos are the same if their files are equal. Images are the same if they are equal at 16 x 16
    pixels, apart from the effects of scaling and compression. This finds copies and thumbnails of
    any format and size. With more than 200,000 images only equal files are found.

    Args:
        root: root of the paths.
        kind: "videos" or "images".
        parts: training parts and test parts.
        workers: threads that read images.
    """
    sides: dict[bool, list[str]] = {False: [], True: []}
    for part in parts:
        paths = part.clip.files if kind == VIDEOS else part.images
        sides[part.is_test] += paths
    # With --split image both sides share the videos. Another line says so.
    apart = kind == IMAGES or not set(sides[False]) & set(sides[True])
    if not apart or not (pairs := same_pairs(root, kind, sides[False], sides[True], workers)):
        return []
    verb = "is" if len(pairs) == 1 else "are"
    trained, tested = pairs[0]
    return [
        f"{len(pairs)} of the {len(sides[True])} {kind} that are tested on {verb} also trained on "
        f"({trained} and {tested} are the same); accuracy looks better than it is"
    ]


def same_pairs(
    root: Path, kind: str, trained: Sequence[str], tested: Sequence[str], workers: int
) -> list[tuple[str, str]]:
    """Pairs of a training file and a test file that are the same."""
    if not (trained and tested):
        return []
    if kind == IMAGES and len(trained) + len(tested) <= _MAX_IMAGES:
        return _same_images(root, trained, tested, workers)
    return _same_files(root, trained, tested)


def _same_images(
    root: Path, trained: Sequence[str], tested: Sequence[str], workers: int
) -> list[tuple[str, str]]:
    """Pairs of a training image and a test image that look the same."""
    from scipy.spatial import KDTree

    small, sizes, names = _reduced(root, [*trained, *tested], workers)
    of_training = set(trained)
    first = sum(name in of_training for name in names)
    if not 0 < first < len(names):
        return []
    # Similar images have similar 4 x 4 means. A tree finds candidates among these fast.
    means = small.reshape(-1, 3, 4, _SIDE // 4, 4, _SIDE // 4).mean((3, 5)).reshape(len(small), -1)
    farthest = _MAX_APART * means.shape[1] ** 0.5
    tree = KDTree(means[:first])
    _, near = tree.query(means[first:], _CANDIDATES, distance_upper_bound=farthest, workers=workers)
    pairs = []
    for place, candidates in enumerate(np.asarray(near), first):
        known = candidates[candidates < first]
        apart = np.sqrt(np.square(small[known].astype(float) - small[place]).mean(1))
        most = [_MAX_APART_IN_SIZE if sizes[one] == sizes[place] else _MAX_APART for one in known]
        apart /= np.minimum(most, _APART + _APART_BY_CONTRAST * small[place].std())
        if len(apart) and apart.min() <= 1:
            pairs.append((names[known[apart.argmin()]], names[place]))
    return pairs


def _reduced(
    root: Path, paths: Sequence[str], workers: int
) -> tuple[np.ndarray, list[tuple[int, ...]], list[str]]:
    """Readable images at 16 x 16 pixels, uint8 [N, 768], with their sizes and paths."""
    from PIL import Image

    from crumb.data.pictures import load_picture
    from crumb.data.shards import open_image

    def read(path: str) -> tuple[np.ndarray, tuple[int, ...]] | None:
        try:
            # Block means, because resize filters for different image sizes differ at the edges.
            blocks = load_picture(root / path, _SIDE * _BLOCK)
        except InputError:
            # Training reports this image later or leaves it out.
            return None
        blocks = blocks.reshape(_SIDE, _BLOCK, _SIDE, _BLOCK, 3)
        size: tuple[int, ...] = ()
        # Only the pixels matter here.
        with suppress(Exception), open_image(root / path) as file, Image.open(file) as image:
            size = tuple(sorted(image.size))
        return blocks.mean((1, 3)).round().astype(np.uint8).reshape(-1), size

    with ThreadPoolExecutor(workers) as pool:
        images = [
            *bar(
                pool.map(read, paths),
                "comparing images",
                "image",
                total=len(paths),
                leave=False,
            )
        ]
    found = [(*image, path) for image, path in zip(images, paths, strict=True) if image is not None]
    rows = [row for row, _, _ in found]
    small = np.stack(rows) if rows else np.empty((0, 3 * _SIDE**2), np.uint8)
    return small, [size for _, size, _ in found], [path for *_, path in found]


def _same_files(root: Path, trained: Sequence[str], tested: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a training file and a test file that are equal."""
    by_size: defaultdict[int, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, paths in enumerate((trained, tested)):
        for path in paths:
            by_size[(root / path).stat().st_size][side].append(path)
    pairs = []
    for of_train, of_test in by_size.values():
        if of_train and of_test:
            known = {_digest(root / path): path for path in reversed(of_train)}
            pairs += [(known[d], path) for path in of_test if (d := _digest(root / path)) in known]
    return pairs


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
