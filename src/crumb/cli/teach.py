"""``crumb teach``: teach a model one more class."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import parse
from crumb.data.names import class_name
from crumb.errors import InputError, setting
from crumb.kinds import Argument
from crumb.reports.table import plain
from crumb.teaching.asking import files_below
from crumb.teaching.files import former, held, replace_model, undo
from crumb.teaching.lesson import Change, changes, load_to_teach, self_test, show
from crumb.teaching.material import Clip


@dataclass(frozen=True, kw_only=True)
class Teach:
    """Teach a model a new or known class from one or more clips, in a single pass."""

    model: Annotated[Path, Argument(positional=True)]
    """Model file, written by crumb learn, crumb stream or learner.save, or folder written by
    crumb export."""
    label: Annotated[str, Argument(positional=True)] = ""
    """Name of the class."""
    clips: Annotated[tuple[Path, ...], Argument(positional=True)] = ()
    """Clips, images, or folders of them."""
    undo: bool = False
    """Undo the last lesson. Give no class and no clips."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""


def run(words: Sequence[str]) -> None:
    """Learn, and print the accuracy of each class before and after."""
    command = parse(Teach, words, "crumb teach")
    if command.undo:
        if command.label or command.clips:
            raise InputError(setting("undo", True), "takes no class and no clips", "leave them out")
        undo(command.model)
        print(f"{command.model} is as it was before the last lesson")
        return
    if not command.label or not command.clips:
        usage = "crumb teach MODEL LABEL CLIP..."
        raise InputError("crumb teach", "the class or the clips are missing", f"call {usage}")
    label = class_name(command.label, "LABEL")
    with held(command.model) as file:
        learner = load_to_teach(file, command.device)
        new = label not in learner.classes
        before = self_test(learner)
        frames = 0
        for path in files_below(command.clips):
            pixels = Clip(label, (path,)).pixels(learner.network.preprocessing)
            show(learner, pixels, label)
            frames += len(pixels)
        replace_model(learner, file)
    kind = "a new class" if new else "known before"
    print(f"taught {label} ({kind}) from {frames:,} frames")
    tell_changes(changes(before, learner))
    model = shlex.quote(str(command.model))
    # What a folder held before a lesson is not kept.
    undone = "" if former(command.model) is None else f", or crumb teach {model} --undo"
    print(f"\nnext: crumb predict {model} CLIP{undone}")


def tell_changes(found: Sequence[Change]) -> None:
    """Print the effect of a lesson on each class, and name the classes that got worse."""
    tested = [
        (one, one.before, one.after)
        for one in found
        if one.before is not None and one.after is not None
    ]
    if not tested:
        if found:
            print(
                "The model stores no features to test itself on (models of slda do), so the "
                "effect is unknown."
            )
        return
    rows = [[one.name, f"{before:.0f}", f"{after:.0f}"] for one, before, after in tested]
    table = plain(["class", "before, %", "after, %"], rows).text()
    print(f"\nAccuracy on the stored features of each class:\n{table}")
    for one, before, after in tested:
        if one.worth_naming:
            print(f"{one.name} lost {before - after:.0f} percentage points")
