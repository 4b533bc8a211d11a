"""Learn a folder or one more class, and report the effect on all classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import InputError, setting
from crumb.memory.capacity import ON_ARRIVAL, second_pass
from crumb.methods.answers import scores_of
from crumb.methods.base import Learner
from crumb.methods.confidence import fit_temperature
from crumb.methods.persistence import load_learner
from crumb.methods.slda import StreamingLda
from crumb.teaching.material import Clip, in_turn

BATCH = 32
LOSS_WORTH_NAMING = 2.0
"""Loss in percentage points above which a class is reported."""


@dataclass
class ClassReport:
    """Results for one class.

    Attributes:
        clips: the clips that were shown, or images.
        frames: in them.
        asked: number of held-out frames.
        right: number of them classified correctly.
        whole_clips: whether whole clips were held out, not the end of the only one.
        confused: classes that frames were taken for, and how often.
    """

    clips: int = 0
    frames: int = 0
    asked: int = 0
    right: int = 0
    whole_clips: bool = False
    confused: Counter[str] = field(default_factory=Counter)

    @property
    def accuracy(self) -> float | None:
        """Percent of the held-out frames that were recognised; None if nothing was held out."""
        return 100 * self.right / self.asked if self.asked else None


def show(learner: Learner, pixels: Tensor, class_name: str) -> None:
    """Learn frames of one class, uint8 [n, 3, S, S], each once.

    Raises:
        InputError: the method needs task boundaries, or the loss is no longer finite.
    """
    learner.checks_losses = True
    learner.add_classes([class_name])
    label = learner.classes.index(class_name)
    for part in pixels.split(BATCH):
        shown = part.to(learner.device)
        labels = torch.full((len(part),), label)
        learner.learn(Batch(labels, learner.features(shown), shown))


def learn_clips(
    learner: Learner, clips: Sequence[Clip], progress: Callable[[], object] = lambda: None
) -> dict[str, ClassReport]:
    """Learn every clip, class by class, and test on the held-out part.

    Held-out frames are tested first and then learned too.

    Args:
        learner: fresh, or one that knows other classes.
        clips: with the held-out share of each.
        progress: called each time a clip has been read. Clips with a held-out share are read three
            times, so that only one is in memory at a time.

    Raises:
        InputError: a clip cannot be read, or see :func:`show`.
    """
    preprocessing = learner.network.preprocessing
    reports: dict[str, ClassReport] = {}
    waiting = _Waiting(learner)
    for clip in in_turn(clips):
        first, back = clip.parts(preprocessing)
        report = reports.setdefault(clip.class_name, ClassReport())
        report.clips += 1
        report.frames += len(first) + len(back)
        waiting.add(clip.class_name, first)
        progress()
    waiting.finish()
    held = [clip for clip in in_turn(clips) if clip.share]
    scores, labels = [], []
    for clip in held:
        _, back = clip.parts(preprocessing)
        if len(back):
            found = scores_of(learner, back)
            _note(reports[clip.class_name], clip, learner.classes, found.argmax(1).tolist())
            if clip.share == 1:
                scores.append(found)
                labels.append(learner.classes.index(clip.class_name))
        progress()
    if scores:
        # The end of a training clip does not help to calibrate confidence on other clips.
        doubt = 1 / (len(scores) + 2)
        each = [label for found, label in zip(scores, labels, strict=True) for _ in found]
        learner.temperature = fit_temperature(torch.cat(scores), torch.tensor(each), doubt)
        every = sum(report.frames for report in reports.values())
        asked = sum(report.asked for report in reports.values())
        learner.measure_reach(scores, labels, 1 - asked / every)
    for clip in held:
        waiting.add(clip.class_name, clip.parts(preprocessing)[1])
        progress()
    waiting.finish()
    return reports


class _Waiting:
    """Frames of one class that wait until they fill a batch: photographs come one by one."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._name = ""
        self._frames: list[Tensor] = []

    def add(self, class_name: str, pixels: Tensor) -> None:
        if class_name != self._name:
            self.finish()
            self._name = class_name
        if len(pixels):
            self._frames.append(pixels)
        if sum(map(len, self._frames)) >= BATCH:
            self.finish()

    def finish(self) -> None:
        if self._frames:
            show(self._learner, torch.cat(self._frames), self._name)
        self._frames = []


def _note(report: ClassReport, clip: Clip, classes: Sequence[str], answers: list[int]) -> None:
    report.asked += len(answers)
    report.whole_clips = clip.share == 1
    for answer in answers:
        if classes[answer] == clip.class_name:
            report.right += 1
        else:
            report.confused[classes[answer]] += 1


@dataclass(frozen=True)
class Change:
    """Effect of a lesson on a known class.

    Attributes:
        name: name of the class.
        before: percent of its stored features that were recognised; None if there are none.
        after: the same after the lesson.
    """

    name: str
    before: float | None
    after: float | None

    @property
    def worth_naming(self) -> bool:
        """Whether the class lost more than two percentage points."""
        if self.before is None or self.after is None:
            return False
        return self.before - self.after > LOSS_WORTH_NAMING


def self_test(learner: Learner) -> dict[str, float | None]:
    """Accuracy in percent on a learner's stored features, by class; None if it stores none."""
    if not isinstance(learner, StreamingLda):
        return dict.fromkeys(learner.classes)
    return dict(zip(learner.classes, learner.self_test(), strict=True))


def changes(before: dict[str, float | None], learner: Learner) -> list[Change]:
    """Effect of a lesson on each class known before and after."""
    after = self_test(learner)
    return [Change(name, value, after[name]) for name, value in before.items() if name in after]


def load_to_teach(model: Path, device: str) -> Learner:
    """Load a model that can learn one more class.

    One that was streamed with task boundaries only because it stored exemplars at the end of a
    task (``crumb``) stores them on arrival from now on.

    Raises:
        InputError: the file cannot be used, or see :func:`refuse_boundaries`.
    """
    learner = load_learner(model, device)
    found = second_pass(learner.config)
    stores_later = found is not None and found[0] == "write_policy"
    if stores_later and not type(learner).needs_task_boundaries:
        learner = load_learner(model, device, ON_ARRIVAL)
    refuse_boundaries(learner, model)
    return learner


def refuse_boundaries(learner: Learner, source: object) -> None:
    """Refuse a learner that cannot learn without task boundaries.

    Raises:
        InputError: the learner needs task boundaries; names ``source`` or the write policy.
    """
    if not (learner.needs_task_boundaries or learner.offline):
        return
    if learner.offline or type(learner).needs_task_boundaries:
        raise InputError(
            source,
            f"is of method {learner.name}, which needs task boundaries",
            "use a model of slda, ncm, er or crumb",
        )
    found = second_pass(learner.config)
    assert found is not None
    name, given, single = found
    problem = "needs task ends, but here there are none"
    raise InputError(setting(name, given), problem, f"give {setting(name, single)}")
