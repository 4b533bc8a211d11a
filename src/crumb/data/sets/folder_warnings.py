"""Ways in which what is tested on can have been trained on."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from crumb.data.sets.folder_layout import IMAGES, VIDEOS
from crumb.data.sets.folder_split import Clip, Split


def warnings(
    root: Path, kind: str, clips: Sequence[Clip], tested: Sequence[bool], split: Split
) -> list[str]:
    """A line for each way in which what is tested on can have been trained on."""
    if split == "image":
        return [
            "frames of one session are trained on and tested on; unless they are single photos, "
            "accuracy looks better than it is"
        ]
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
    if kind == VIDEOS and (same := _same_videos(root, clips, tested)):
        lines.append(
            f"{same[0]} is trained on and {same[1]}, the same video, tested on; accuracy looks "
            "better than it is"
        )
    return lines


def _same_videos(
    root: Path, clips: Sequence[Clip], tested: Sequence[bool]
) -> tuple[str, str] | None:
    """The first two equal files, one trained on and one tested on."""
    by_size: defaultdict[int, list[tuple[str, bool]]] = defaultdict(list)
    for clip, is_test in zip(clips, tested, strict=True):
        for path in clip.files:
            by_size[(root / path).stat().st_size].append((path, is_test))
    for files in by_size.values():
        if len({is_test for _, is_test in files}) < 2:
            continue
        digests: dict[str, dict[bool, str]] = {}
        for path, is_test in files:
            with (root / path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests.setdefault(digest, {}).setdefault(is_test, path)
        for sides in digests.values():
            if len(sides) > 1:
                return sides[False], sides[True]
    return None
