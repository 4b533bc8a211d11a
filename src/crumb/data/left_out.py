"""What the published rules leave out of a tree of clips, in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from crumb.data.toybox import (
    DROPPED_SESSIONS,
    LAST_OBJECT,
    SUPER_CATEGORIES,
    find_clips,
    missing_sessions,
    visible,
)


def left_out(root: Path) -> list[str]:
    """One line for each object, and for each kind of file, that ``index_toybox`` leaves out.

    Hidden files are not counted.

    Args:
        root: The tree.

    Raises:
        InputError: see :func:`crumb.data.toybox.find_clips`.
    """
    missing = missing_sessions(find_clips(root))
    whole = Counter(name for (name, _), sessions in missing.items() if not sessions)
    lines = []
    for (name, item), sessions in missing.items():
        if sessions:
            lines.append(f"{name} object {item} (no {', '.join(sessions)})")
        elif item == whole[name] == LAST_OBJECT:
            published = LAST_OBJECT - 1
            why = f"{LAST_OBJECT} objects; the published sample has {published}"
            lines.append(f"{name} object {item} ({why})")
    inside = [
        path
        for name in SUPER_CATEGORIES
        for folder in visible(root / name)
        for path in visible(folder)
    ]
    clips = [path for path in inside if path.suffix.lower() == ".mp4"]
    dropped = sum(path.stem.rsplit("_", 1)[-1] in DROPPED_SESSIONS for path in clips)
    others = len(inside) - len(clips)
    if dropped:
        kinds = " or ".join(DROPPED_SESSIONS)
        lines.append(f"{dropped} {'clip' if dropped == 1 else 'clips'} named {kinds}")
    if others:
        lines.append(f"{others} {'file that is' if others == 1 else 'files that are'} no .mp4")
    return [f"left out: {line}" for line in lines]
