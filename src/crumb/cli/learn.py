"""``crumb learn``: train a model on a folder of clips."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from crumb.cli.parsing import Preset, option, parse_parts
from crumb.data.names import class_name
from crumb.data.resize import Resize
from crumb.data.sets.folder import Folder, Survey
from crumb.device import choose_device
from crumb.errors import InputError, setting
from crumb.files import check_new_file, short_name
from crumb.kinds import UNSET, Argument
from crumb.memory.capacity import by_mode
from crumb.methods.base import Learner
from crumb.methods.registry import DEFAULT_METHOD, DEFAULT_SETTINGS, find_method
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.fronts import use_engine
from crumb.progress import bar
from crumb.reports.table import plain
from crumb.stream.config import at_least
from crumb.teaching.lesson import ClassReport, learn_clips, refuse_boundaries
from crumb.teaching.material import clips_of, hold_back, without_copies


@dataclass(frozen=True, kw_only=True)
class Learn:
    """Learn the classes of a folder in a single pass and write a model."""

    root: Annotated[Path, Argument(positional=True)]
    """Folder with one subfolder of clips or photos per class, or a CSV file (see crumb index
    folder)."""
    output: Path | None = None
    """Model file to write. Default: <name of the folder>.crumb."""
    method: str = DEFAULT_METHOD
    """Learning method."""
    table: Path | None = None
    """CSV file that lists the files to use, with paths relative to ROOT."""
    only: Literal["videos", "images"] | None = None
    """Whether to use clips or photos of a folder that holds both."""
    resize: Resize = "crop"
    """How images become square: crop resizes the shorter side and keeps the centre, squash ignores
    the aspect ratio, pad keeps everything and adds black bars."""
    hold_back: bool = True
    """First test on a held-out quarter of the material, then learn it too."""
    seed: int = 0
    """Seed of all random numbers."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0, (1 << 31) - 1)

    @property
    def model(self) -> Path:
        """The model file that is written."""
        root = self.root.resolve()
        # Drop the suffix of a CSV file, but not of a folder: v1.1 and v1.2 are two names.
        name = root.stem if root.is_file() else root.name
        return self.output or Path(f"{short_name(name or 'root')}.crumb")


def run(words: Sequence[str]) -> None:
    """Scan the folder, learn it and print what was learned."""
    given = option(words, "--method")
    name = given or DEFAULT_METHOD
    kind = find_method(name)
    parsed = parse_parts(
        "crumb learn" if given is None else f"crumb learn --method {given}",
        "Learn the classes of a folder in a single pass and write a model. "
        "crumb learn --method M --help shows the settings of that method.",
        words,
        Preset("", {}),
        learn=Learn(root=UNSET),
        network=NetworkConfig(),
        method=_defaults(kind),
    )
    command: Learn = parsed.learn
    check_new_file(command.model, setting("output"))
    folder = Folder(
        root=command.root,
        table=command.table,
        only=command.only,
        resize=command.resize,
        test=False,
    )
    survey = folder.survey
    _tell(survey)
    started = time.perf_counter()
    learner = _learner(command, parsed.network, parsed.method)
    refuse_boundaries(learner, setting("method", name))
    clips = clips_of(survey)
    if command.hold_back:
        clips, same = without_copies(hold_back(clips), survey.kind, folder.workers)
        _tell_copies(same)
    readings = len(clips) + 2 * sum(clip.share > 0 for clip in clips)
    with bar(None, "learning", "clip", total=readings, leave=False) as progress:
        reports = learn_clips(learner, clips, progress.update)
    check_new_file(command.model, setting("output"))
    learner.save(command.model)
    seconds = time.perf_counter() - started
    print(table(reports))
    print(_trust(reports))
    held = learner.bytes_held()
    print(f"\nmodel: {command.model}, {held.replay + held.extra:,} bytes beside the network")
    print(f"{sum(one.frames for one in reports.values()):,} frames in {seconds:.1f} seconds")
    print(f"next: crumb predict {shlex.quote(str(command.model))} CLIP")


def _defaults(kind: type[Learner]) -> Any:
    """Default settings of a method for online learning without task boundaries."""
    config = kind.Config()
    if kind.name == DEFAULT_METHOD:
        config = replace(config, **DEFAULT_SETTINGS)
    return by_mode(config, strict=True)


def _learner(command: Learn, network: NetworkConfig, method: Any) -> Learner:
    built = build_network(network, command.seed)
    built.preprocessing = replace(built.preprocessing, resize=command.resize)
    kind = find_method(command.method)
    learner = kind(built, method, command.seed, choose_device(command.device))
    use_engine(built, network.engine)
    return learner


def _tell(survey: Survey) -> None:
    names = list(survey.class_ids)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    what = "clips" if survey.kind == "videos" else "sets of photos"
    print(f"{survey.where}: {len(names)} classes ({shown}), {len(survey.clips)} {what}")
    for why, paths in survey.unused.items():
        print(f"left out: {len(paths)} ({why}), the first {paths[0]}")
    for note in survey.notes:
        print(f"note: {note}")
    sys.stdout.flush()
    if len(names) < 2:
        raise InputError(survey.where, "holds a single class", "add one folder per class")
    for name in names:
        where = f"{survey.where}, class"
        class_name(name, where)
        if name.startswith("-"):
            problem = "begins like a flag, so no command could name it"
            raise InputError(f"{where} {name!r}", problem, "give it another name")


def _tell_copies(same: Sequence[tuple[str, str]]) -> None:
    if same:
        shown, held = same[0]
        verb = "is the same as one" if len(same) == 1 else "are the same as others"
        print(
            f"note: {len(same)} of the held-out files {verb} used for training ({held} and "
            f"{shown}), so they are not tested on"
        )
        sys.stdout.flush()


def table(reports: dict[str, ClassReport]) -> str:
    """One row per class: what was learned, and the accuracy on the held-out part."""
    head = ["class", "clips", "frames", "held out, %", "most often taken for"]
    rows = []
    for name, one in reports.items():
        accuracy = "-" if one.accuracy is None else f"{one.accuracy:.0f}"
        confused = one.confused.most_common(1)
        other = f"{confused[0][0]} ({100 * confused[0][1] / one.asked:.0f} %)" if confused else "-"
        rows.append([name, f"{one.clips:,}", f"{one.frames:,}", accuracy, other])
    asked = sum(one.asked for one in reports.values())
    if asked:
        right = sum(one.right for one in reports.values())
        clips, frames = (
            sum(getattr(one, what) for one in reports.values()) for what in ("clips", "frames")
        )
        rows.append(["all", f"{clips:,}", f"{frames:,}", f"{100 * right / asked:.0f}", ""])
    return plain(head, rows).text()


def _trust(reports: dict[str, ClassReport]) -> str:
    """Explain how reliable the measured accuracy is."""
    asked = [one for one in reports.values() if one.asked]
    if not asked:
        return "Nothing was held out, so the accuracy is unknown."
    ends = sum(not one.whole_clips for one in asked)
    frames = sum(one.asked for one in asked)
    if not ends:
        return f"Measured on {frames:,} frames of held-out clips. The model has learned them since."
    whose = "every class" if ends == len(asked) else f"{ends} of {len(asked)} classes"
    return (
        f"Measured on {frames:,} held-out frames. For {whose} they are the end of the only clip, "
        "which resembles its beginning: expect a lower accuracy on another clip. Give two clips "
        "per class for a better estimate. The model has learned these frames since."
    )
