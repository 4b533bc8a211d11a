"""``crumb predict``: classify clips, images or a camera's frames."""

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
from crumb.errors import InputError, about, printable, require, setting
from crumb.files import check_new_file
from crumb.kinds import Argument
from crumb.methods.answers import Verdict, limits_of, scores_of
from crumb.methods.base import Learner
from crumb.methods.persistence import load_learner
from crumb.teaching.asking import answer_rows, files_below

CAMERA = "camera:"


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Classify clips, images or a camera's frames with a model; one line per clip."""

    model: Annotated[Path, Argument(positional=True)]
    """Model file, written by crumb learn, crumb stream or learner.save, or folder written by
    crumb export."""
    what: Annotated[tuple[str, ...], Argument(positional=True)]
    """Clips, images, folders of them, or camera:0 for the first camera."""
    frames: bool = False
    """Print one line per frame (one frame per second) instead of one per clip."""
    unknown_share: float | None = None
    """Answer "unknown" for anything farther from its class than all but this share of the class's
    training frames, e.g. 0.01. Needs several clips per class: frames of a single clip are so alike
    that any other clip looks far away."""
    format: Literal["table", "csv", "jsonl"] = "table"
    """Output format: text for people, CSV, or one JSON object per line."""
    annotate: Path | None = None
    """MP4 file to write: the clip with the answers drawn into it."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        if not self.what:
            raise InputError(
                "crumb predict", "no clip or image is given", "name a clip or an image"
            )
        if (share := self.unknown_share) is not None:
            require("unknown_share", share, 0 < share < 1, "between 0 and 1")


def run(words: Sequence[str]) -> None:
    """Load the model, classify each source in turn and print one line for each."""
    command = parse(Predict, words, "crumb predict")
    learner = load_learner(command.model, command.device)
    if not learner.classes:
        raise InputError(command.model, "knows no class", "teach it a class with crumb teach")
    with about(command.model):
        limits = limits_of(learner, command.unknown_share)
    if command.annotate is not None:
        _annotate(command, learner, limits)
    watching = any(one.startswith(CAMERA) for one in command.what)
    writer = Writer(command.format, command.frames or watching)
    for source, number, verdict in _answers(command, learner, limits):
        writer.write(source, number, verdict)


Answer = tuple[str, int, Verdict]
"""Print one answer: source, frame number (from 1; 0 for a whole clip) and verdict."""


def _answers(command: Predict, learner: Learner, limits: Tensor | None) -> Iterator[Answer]:
    cameras = [one for one in command.what if one.startswith(CAMERA)]
    if cameras and len(command.what) > 1:
        raise InputError(
            cameras[0], "cannot be combined with files", "name the camera or files, not both"
        )
    if cameras:
        yield from _watch(cameras[0], learner, limits)
        return
    square = learner.network.preprocessing.square
    for path in files_below([Path(one) for one in command.what]):
        pixels = pixels_of_file(path, *square)
        scores = scores_of(learner, pixels)
        yield from _rows(str(path), learner, scores, limits, command.frames)


def _rows(
    source: str, learner: Learner, scores: Tensor, limits: Tensor | None, each_frame: bool
) -> Iterator[Answer]:
    for number, verdict in enumerate(answer_rows(learner, scores, limits, each_frame), 1):
        yield source, number if each_frame else 0, verdict


class Writer:
    """Prints each answer immediately, in one of three formats."""

    def __init__(self, form: str, frames: bool) -> None:
        self._form, self._frames = form, frames
        self._names = ["source", "class", "probability", "runner-up", "its probability"]
        if frames:
            self._names.insert(1, "second")
        if form == "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerow(self._names)

    def write(self, source: str, number: int, verdict: Verdict) -> None:
        """Print one answer. ``number`` counts frames (one per second) from 1."""
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
    """Classify one camera frame per second until Ctrl-C."""
    from crumb.data.camera import frames_of_camera

    size, resize, interpolation = learner.network.preprocessing.square
    for number, frame in enumerate(frames_of_camera(camera), 1):
        pixels = pil_to_tensor(frame, size, camera, resize, interpolation)
        scores = scores_of(learner, pixels[None])
        for source, _, verdict in _rows(camera, learner, scores, limits, True):
            yield source, number, verdict


def _annotate(command: Predict, learner: Learner, limits: Tensor | None) -> None:
    from crumb.teaching.annotate import annotate

    if len(command.what) != 1 or command.what[0].startswith(CAMERA):
        given = setting("annotate", command.annotate)
        raise InputError(given, "needs a single clip", "give one clip")
    assert command.annotate is not None
    check_new_file(command.annotate, setting("annotate"))
    annotate(Path(command.what[0]), command.annotate, learner, limits)
