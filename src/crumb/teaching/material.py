"""Clips and images of each class, and their held-out frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from crumb.data.sets.folder import Survey
from crumb.data.sets.folder_layout import IMAGES
from crumb.data.sets.folder_warnings import same_pairs
from crumb.data.shown import pixels_of_file
from crumb.data.spacing import evenly
from crumb.nets.config import Preprocessing

SHARE = 0.25
"""Share of a class that is held out."""


@dataclass(frozen=True)
class Clip:
    """A clip of one class, or the images of a session.

    Attributes:
        class_name: name of the class.
        files: one video, or images in order.
        share: share of its frames that is held out, from the end: all, none, or the last quarter
            of the only clip of a class.
    """

    class_name: str
    files: tuple[Path, ...]
    share: float = 0.0

    def pixels(self, preprocessing: Preprocessing) -> Tensor:
        """Every frame, uint8 [frames, 3, size, size].

        Raises:
            InputError: a file is missing, broken, or without frames.
        """
        return torch.cat([pixels_of_file(path, *preprocessing.square) for path in self.files])

    def parts(self, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
        """The training frames and the held-out frames."""
        pixels = self.pixels(preprocessing)
        back = round(self.share * len(pixels))
        if 0 < self.share < 1:
            # Of two frames one, so that there is something to learn and something to ask.
            back = min(max(back, 1), len(pixels) - 1)
        return pixels[: len(pixels) - back], pixels[len(pixels) - back :]


def clips_of(survey: Survey) -> list[Clip]:
    """The clips of a folder, none held out. Photos without sessions count as one clip each.

    Args:
        survey: survey of the folder.
    """
    clips = []
    for clip in survey.clips:
        files = tuple(survey.root / path for path in clip.files)
        alone = survey.kind == IMAGES and not clip.session
        parts = [(path,) for path in files] if alone else [files]
        clips += [Clip(clip.class_name, part) for part in parts]
    return clips


def hold_back(clips: Sequence[Clip]) -> list[Clip]:
    """The same clips with a held-out share each.

    A quarter of a class's clips, evenly spaced and at least one, or the last quarter of the frames
    of a single clip.
    """
    of_class: defaultdict[str, list[int]] = defaultdict(list)
    for place, clip in enumerate(clips):
        of_class[clip.class_name].append(place)
    shares = [0.0] * len(clips)
    for places in of_class.values():
        if len(places) == 1:
            shares[places[0]] = SHARE
            continue
        back = max(1, round(SHARE * len(places)))
        for place in evenly(len(places), back).tolist():
            shares[places[place]] = 1.0
    return [
        Clip(clip.class_name, clip.files, share) for clip, share in zip(clips, shares, strict=True)
    ]


def without_copies(
    clips: Sequence[Clip], kind: str, workers: int
) -> tuple[list[Clip], list[tuple[str, str]]]:
    """The same clips, without held-out files that equal a training file.

    Args:
        clips: with the held-out share of each.
        kind: "videos" or "images".
        workers: threads that read images.

    Returns:
        the clips; and the files that are the same, each after the one that is shown.
    """
    learned, held = (
        [str(path) for clip in clips if (clip.share == 1) is back for path in clip.files]
        for back in (False, True)
    )
    pairs = same_pairs(Path(), kind, learned, held, workers)
    copies = {Path(copy) for _, copy in pairs}
    return [
        replace(clip, share=0.0) if clip.share == 1 and not copies.isdisjoint(clip.files) else clip
        for clip in clips
    ], pairs


def in_turn(clips: Sequence[Clip]) -> Iterator[Clip]:
    """The clips grouped by class."""
    names = dict.fromkeys(clip.class_name for clip in clips)
    for name in names:
        yield from (clip for clip in clips if clip.class_name == name)
