"""``crumb predict``: ask a model what clips, images or a camera show."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from torch import Tensor

from crumb.cli.parsing import parse
from crumb.data.images import pil_to_tensor
from crumb.data.shown import pixels_of_file
from crumb.errors import InputError, printable, require, setting
from crumb.files import check_new_file
from crumb.kinds import Argument
from crumb.methods.answers import Verdict, limits_of, scores_of
from crumb.methods.base import Learner
from crumb.methods.persistence import load_learner
from crumb.teaching.asking import answer_rows, files_below

CAMERA = "camera:"


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Ask a model what clips, images or a camera show: one line a clip."""

    model: Annotated[Path, Argument(positional=True)]
    """File of a model, written by crumb learn, crumb stream or learner.save."""
    what: Annotated[tuple[str, ...], Argument(positional=True)]
    """Clips, images, folders of them, or camera:0 for the first camera."""
    frames: bool = False
    """A line for every frame, one a second, instead of one for a clip."""
    unknown_share: float | None = None
    """Answer "unknown" to what is farther from its class than all but this share of the class's own
    frames, e.g. 0.01. Only with several clips of each class: frames of one clip are so alike that
    any other clip is far from them."""
    format: Literal["table", "csv", "jsonl"] = "table"
    """Columns for readers, comma-separated values, or a JSON object a line."""
    annotate: Path | None = None
    """Write the clip with the answers drawn into it, as an MP4 file."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        if not self.what:
            raise InputError("crumb predict", "names nothing to look at", "name a clip or an image")
        if (share := self.unknown_share) is not None:
            require("unknown_share", share, 0 < share < 1, "between 0 and 1")


def run(words: Sequence[str]) -> None:
    """Load the model, look at one thing after the other, print a line for each."""
    command = parse(Predict, words, "crumb predict")
    learner = load_learner(command.model, command.device)
    if not learner.classes:
        raise InputError(command.model, "knows no class", "teach it one: crumb teach")
    limits = limits_of(learner, command.unknown_share)
    if command.annotate is not None:
        _annotate(command, learner, limits)
    watching = any(one.startswith(CAMERA) for one in command.what)
    writer = Writer(command.format, command.frames or watching)
    for source, number, verdict in _answers(command, learner, limits):
        writer.write(source, number, verdict)


Answer = tuple[str, int, Verdict]
"""Where from, which frame (from 1; 0 for a whole clip), what it is."""


def _answers(command: Predict, learner: Learner, limits: Tensor | None) -> Iterator[Answer]:
    cameras = [one for one in command.what if one.startswith(CAMERA)]
    if cameras and len(command.what) > 1:
        raise InputError(cameras[0], "goes alone", "name the camera or files, not both")
    if cameras:
        yield from _watch(cameras[0], learner, limits)
        return
    preprocessing = learner.network.preprocessing
    for path in files_below([Path(one) for one in command.what]):
        pixels = pixels_of_file(path, preprocessing.size, preprocessing.resize)
        scores = scores_of(learner, pixels)
        yield from _rows(str(path), learner, scores, limits, command.frames)


def _rows(
    source: str, learner: Learner, scores: Tensor, limits: Tensor | None, each_frame: bool
) -> Iterator[Answer]:
    for number, verdict in enumerate(answer_rows(learner, scores, limits, each_frame), 1):
        yield source, number if each_frame else 0, verdict


class Writer:
    """Prints answers in one of three forms, each as soon as it is there."""

    def __init__(self, form: str, frames: bool) -> None:
        self._form, self._frames = form, frames
        self._names = ["source", "class", "probability", "runner-up", "its probability"]
        if frames:
            self._names.insert(1, "second")
        if form == "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerow(self._names)

    def write(self, source: str, number: int, verdict: Verdict) -> None:
        """Print one answer; ``number`` counts frames, one a second, from 1."""
        values: list[object] = [
            printable(source),
            verdict.name,
            None if verdict.probability is None else round(verdict.probability, 4),
            verdict.runner_up,
            round(verdict.runner_up_probability, 4),
        ]
        if self._frames:
            values.insert(1, number - 1)
        if self._form == "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerow(values)
        elif self._form == "jsonl":
            names = [name.replace(" ", "_").replace("-", "_") for name in self._names]
            print(json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False))
        else:
            where = printable(source) + (f", second {number - 1}" if self._frames else "")
            print(f"{where}: {_words(verdict)}")
        sys.stdout.flush()


def _words(verdict: Verdict) -> str:
    other = f"{verdict.runner_up} {100 * verdict.runner_up_probability:.0f} %"
    if verdict.probability is None:
        return f"{verdict.name}, nearest {other}"
    found = f"{verdict.name} {100 * verdict.probability:.0f} %"
    return f"{found}, else {other}" if verdict.runner_up else found


def _watch(camera: str, learner: Learner, limits: Tensor | None) -> Iterator[Answer]:
    """A camera, one frame a second, until Ctrl-C."""
    from crumb.data.camera import frames_of_camera

    size, resize = learner.network.preprocessing.size, learner.network.preprocessing.resize
    for number, frame in enumerate(frames_of_camera(camera), 1):
        scores = scores_of(learner, pil_to_tensor(frame, size, resize=resize)[None])
        for source, _, verdict in _rows(camera, learner, scores, limits, True):
            yield source, number, verdict


def _annotate(command: Predict, learner: Learner, limits: Tensor | None) -> None:
    from crumb.teaching.annotate import annotate

    if len(command.what) != 1 or command.what[0].startswith(CAMERA):
        given = setting("annotate", command.annotate)
        raise InputError(given, "draws into one clip", "name a single clip")
    assert command.annotate is not None
    check_new_file(command.annotate, setting("annotate"))
    annotate(Path(command.what[0]), command.annotate, learner, limits)
