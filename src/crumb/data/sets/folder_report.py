"""Describe how Crumb read a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill

from crumb.data.sets.folder import Survey
from crumb.data.sets.folder_layout import VIDEOS
from crumb.data.sets.folder_split import Clip, Split
from crumb.data.stats import aligned

_MAX_CLASSES, _MAX_READINGS, _WIDTH = 24, 3, 40
_RULES: dict[Split, str] = {
    "session": "whole sessions, {share:.0%} of each object's, evenly spread (--split session)",
    "object": "whole objects, {share:.0%} of each class's, evenly spread (--split object)",
    "given": "what is given (--split given)",
    "image": "the last {share:.0%} of each session's images (--split image)",
}
_NOTHING = "nothing (--no-test)"


def report(survey: Survey, share: float) -> str:
    """Classes with their counts, how paths are read, what is tested on, what cannot be used.

    Returns:
        Lines without a line end after the last.
    """
    classes = len(survey.class_ids)
    blocks = [
        [f"{survey.where}: {survey.kind} of {classes} {'class' if classes == 1 else 'classes'}"],
        _classes(survey),
        ["how paths are read:", *_readings(survey)],
        [f"tested on: {_RULES[survey.split].format(share=share) if survey.test else _NOTHING}"],
    ]
    if survey.unused:
        blocks.append(["cannot be used:", *_unused(survey)])
    blocks.append([fill(f"note: {line}", 100, subsequent_indent="      ") for line in survey.notes])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _classes(survey: Survey) -> list[str]:
    """One row per class, and one for all of them."""
    unit = "seconds" if survey.kind == VIDEOS else "images"
    rows: list[tuple[str, int, int, int, int, int]] = []
    tested = ["tested on"]
    for name, number in survey.class_ids.items():
        places = [n for n, clip in enumerate(survey.clips) if clip.class_name == name]
        clips = [survey.clips[n] for n in places]
        objects = len({clip.object for clip in clips})
        train, test = survey.sides[name]
        rows.append((name, number, objects, len(clips), train + test, test))
        held = [survey.clips[n] for n in places if survey.tested[n]]
        tested.append(_tested(held, objects, survey.split) if survey.test else "nothing")
    total = ("all", "", *(sum(column) for column in zip(*(row[2:] for row in rows), strict=True)))
    lines = aligned(("class", "id", "objects", "sessions", unit, "to test"), [*rows, total])
    lines = [f"{line}  {names}".rstrip() for line, names in zip(lines, [*tested, ""], strict=True)]
    if len(rows) > _MAX_CLASSES:
        left = len(rows) - _MAX_CLASSES
        lines[_MAX_CLASSES + 1 : -1] = [f"... and {left} more"]
    return lines if len(rows) > 1 else lines[:-1]


def _tested(held: Sequence[Clip], objects: int, split: Split) -> str:
    """The test sessions or test objects of a class, the first ones by name."""
    if split == "image":
        return "the last of each session"
    if not held:
        return "nothing"
    if split == "object":
        return _fit(dict.fromkeys(clip.object for clip in held))
    of_object: dict[str, list[str]] = {}
    for clip in held:
        # Clips are often named after their object.
        short = clip.session.removeprefix(clip.object or clip.class_name).lstrip(" _-")
        of_object.setdefault(clip.object, []).append(short or clip.session)
    lists = list(of_object.values())
    if len(lists) == objects and all(names == lists[0] for names in lists):
        return _fit(lists[0]) + (" of each object" if objects > 1 else "")
    return _fit("/".join(filter(None, (clip.object, clip.session))) for clip in held)


def _readings(survey: Survey) -> list[str]:
    """An example of each kind of path."""
    examples: dict[tuple[bool, bool], list[str]] = {}
    for clip in survey.clips:
        path = clip.files[0]
        if (bool(clip.object), bool(clip.session)) in examples:
            continue
        item = f"object {clip.object}" if clip.object else "one object"
        session = f"session {clip.session}" if clip.session else "one session"
        examples[bool(clip.object), bool(clip.session)] = [
            f"  {path}",
            f"    class {clip.class_name}, {item}, {session}",
        ]
    return [line for lines in list(examples.values())[:_MAX_READINGS] for line in lines]


def _unused(survey: Survey) -> list[str]:
    groups = sorted(survey.unused.items(), key=lambda item: -len(item[1]))
    width = len(str(len(groups[0][1])))
    return [f"  {len(paths):{width}}  {why}: {_fit(paths)}" for why, paths in groups]


def _fit(names: Iterable[str]) -> str:
    """The first names, at least one, and the number of others."""
    names = list(names)
    shown = names[:1]
    for name in names[1:]:
        if len(", ".join([*shown, name])) > _WIDTH:
            break
        shown.append(name)
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
