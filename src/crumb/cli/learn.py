"""``crumb learn``: from a folder of clips to a model."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
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
from crumb.methods.base import Learner
from crumb.methods.registry import DEFAULT_METHOD, DEFAULT_SETTINGS, find_method
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.progress import bar
from crumb.reports.table import plain
from crumb.stream.config import at_least
from crumb.teaching.lesson import ClassReport, learn_clips, refuse_boundaries
from crumb.teaching.material import clips_of, hold_back, without_copies


@dataclass(frozen=True, kw_only=True)
class Learn:
    """Learn the classes of a folder, each frame once, and write a model."""

    root: Annotated[Path, Argument(positional=True)]
    """Folder with a folder of clips or photos for each class, or a CSV file (see crumb index
    folder)."""
    output: Path | None = None
    """File of the model; <name of the folder>.crumb by default."""
    method: str = DEFAULT_METHOD
    """Learning method."""
    table: Path | None = None
    """CSV file that lists what to use; its paths are relative to ROOT."""
    only: Literal["videos", "images"] | None = None
    """Which to use of a folder that holds both."""
    resize: Resize = "crop"
    """How images become square: crop resizes the shorter side and keeps the centre, squash ignores
    the aspect ratio, pad keeps everything and adds black bars."""
    hold_back: bool = True
    """Hold a quarter back to test on, before that is learned too."""
    seed: int = 0
    """Of every random number."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0, (1 << 31) - 1)

    @property
    def model(self) -> Path:
        """The file that is written."""
        root = self.root.resolve()
        # Of a table without its ending; of a folder all of it, as v1.1 and v1.2 are two.
        name = root.stem if root.is_file() else root.name
        return self.output or Path(f"{short_name(name or 'root')}.crumb")


def run(words: Sequence[str]) -> None:
    """Look through the folder, learn, print what was learned."""
    name = option(words, "--method") or DEFAULT_METHOD
    kind = find_method(name)
    parsed = parse_parts(
        "crumb learn",
        "Learn the classes of a folder, each frame once, and write a model. "
        "--method M shows the flags of that method.",
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
    """Settings of a method in which it learns from what comes, without task boundaries."""
    config = kind.Config()
    names = {one.name for one in fields(config)}
    if kind.name == DEFAULT_METHOD:
        config = replace(config, **DEFAULT_SETTINGS)
    if "write_policy" in names:
        config = replace(config, write_policy="on-arrival")
    return config


def _learner(command: Learn, network: NetworkConfig, method: Any) -> Learner:
    built = build_network(network, command.seed)
    built.preprocessing = replace(built.preprocessing, resize=command.resize)
    kind = find_method(command.method)
    return kind(built, method, command.seed, choose_device(command.device))


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
        raise InputError(
            survey.where, "holds a single class", "add a folder for each thing to tell apart"
        )
    for name in names:
        where = f"{survey.where}, class"
        class_name(name, where)
        if name.startswith("-"):
            problem = "begins like a flag, so that no command could name it"
            raise InputError(f"{where} {name!r}", problem, "give it another name")


def _tell_copies(same: Sequence[tuple[str, str]]) -> None:
    if same:
        shown, held = same[0]
        verb = "is the same as one" if len(same) == 1 else "are the same as others"
        print(
            f"note: {len(same)} of what was to be held back {verb} that is learned from "
            f"({held} and {shown}), so nothing is measured on it"
        )
        sys.stdout.flush()


def table(reports: dict[str, ClassReport]) -> str:
    """A row a class: what was shown, and how much of what was held back was recognised."""
    head = ["class", "clips", "frames", "held back, %", "most often taken for"]
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
    """How far the number can be trusted."""
    asked = [one for one in reports.values() if one.asked]
    if not asked:
        return "Nothing was held back, so nothing is known of how well it works."
    ends = sum(not one.whole_clips for one in asked)
    frames = sum(one.asked for one in asked)
    if not ends:
        return (
            f"Measured on {frames:,} frames of clips that had not been shown. "
            "They have been learned since."
        )
    whose = "every class" if ends == len(asked) else f"{ends} of {len(asked)} classes"
    return (
        f"Measured on {frames:,} frames. Of {whose} they are the end of the only clip, which "
        "resembles its beginning: on another clip expect less. Give two clips of each class to "
        "know. The frames have been learned since."
    )
