"""All analyses of saved learners: key numbers by run, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crumb.analysis.block_classes import (
    correlation_figures,
    information_panel,
    lift_panel,
    telling_blocks,
)
from crumb.analysis.block_images import block_images_panel
from crumb.analysis.embedding import Embedding, check_embedding, embedding_panel
from crumb.analysis.examine import (
    Codes,
    accuracies,
    block_images,
    flat_maps,
    read_codes,
    sample_frames,
    shown,
    snapshots,
)
from crumb.analysis.learners import (
    SavedRun,
    TestImages,
    codebook_before,
    codebook_of,
    open_learner,
    saved_runs,
)
from crumb.analysis.maps import maps_panel
from crumb.analysis.perturbation_panels import Accuracies, advantage_panel, drop_panel
from crumb.analysis.perturbations import MEANING, NONE, advantages, drops
from crumb.analysis.reconstruction import drift_panel, error_panel
from crumb.analysis.usage import BlockCounts, class_usage_panel, usage_figures, usage_panel
from crumb.data.index import Dataset
from crumb.errors import InputError
from crumb.methods.base import Learner
from crumb.reports.panels import Panel
from crumb.stream.learner import of_run

_NOW, _BEFORE = "as it is", "before tuning"
_BLOCKS, _IMAGES_OF_A_BLOCK = 4, 6


@dataclass(frozen=True)
class Request:
    """Configuration of the analyses.

    Attributes:
        learners: files of learners, or results folders that hold some.
        dataset: whose test images are read.
        device: on which is computed.
        before: file with an earlier codebook, if any; {run} stands for the number of the run.
        versus: learners of another arm, of the same runs, if any.
        stylised: root folder of stylised pictures, if any.
        embedding: how maps are placed on a plane.
        images: placed there, at most.
        frames: whose reconstruction is drawn, at most.
    """

    learners: Sequence[Path]
    dataset: Dataset
    device: str = "cpu"
    before: Path | None = None
    versus: Sequence[Path] = ()
    stylised: Path | None = None
    embedding: Embedding = "pca"
    images: int = 300
    frames: int = 4


@dataclass
class Findings:
    """Results of the analyses.

    Attributes:
        values: key numbers: what, then run.
        panels: the figures.
        counts: counts of blocks, of the first run, if it has a codebook.
    """

    values: dict[str, dict[int, float]] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)
    counts: BlockCounts | None = None

    def note(self, run: int, figures: Mapping[str, float]) -> None:
        """Add key numbers of a run."""
        for what, value in figures.items():
            self.values.setdefault(what, {})[run] = value


def analyse(request: Request) -> Findings:
    """Pass the test images through every learner and run all analyses.

    Learners without a codebook are tested under perturbations only.

    Raises:
        InputError: a file cannot be used, an image is missing, two arms have other runs, or
            something that is asked for is not installed.
    """
    check_embedding(request.embedding)
    runs = saved_runs(request.learners, "LEARNERS")
    others = saved_runs(request.versus, "--versus")
    if others and [one.run for one in others] != [one.run for one in runs]:
        numbers = [", ".join(str(one.run) for one in arm) for arm in (others, runs)]
        problem = f"has the runs {numbers[0]}, the first arm {numbers[1]}"
        raise InputError("--versus", problem, "give the same runs of both arms")
    images = TestImages(request.dataset, request.device)
    stylised = (
        TestImages(request.dataset, request.device, request.stylised) if request.stylised else None
    )
    found, codes, own = Findings(), {}, {}
    for saved in runs:
        learner = open_learner(saved.end, request.device)
        own[saved.run] = accuracies(learner, images, stylised)
        if codebook_of(learner) is not None:
            codes[saved.run] = _codes(request, saved.run, learner, images, found)
            if saved is runs[0]:
                found.counts = used = codes[saved.run].used
                found.panels += _pictures(request, learner, images, used, saved.run)
    _draw_codes(codes, found)
    _draw_stream(runs, images, request.device, found)
    arms = {_name(runs[0], others[0] if others else None, request.device): own}
    if others:
        tested = {
            saved.run: accuracies(open_learner(saved.end, request.device), images, stylised)
            for saved in others
        }
        arms[_name(others[0], runs[0], request.device)] = tested
    _draw_perturbations(arms, found)
    return found


def _name(saved: SavedRun, other: SavedRun | None, device: str) -> str:
    """The method of an arm; the name of its folder where the other has the same method."""
    method = open_learner(saved.end, device).name
    if other is not None and open_learner(other.end, device).name == method:
        return saved.end.resolve().parent.name
    return method


def _codes(
    request: Request, run: int, learner: Learner, images: TestImages, found: Findings
) -> Codes:
    """The codes of one run; their key numbers are noted."""
    earlier = None
    if request.before is not None:
        earlier = codebook_before(of_run(request.before, run), learner, request.device)
    codes = read_codes(learner, images.reading(learner), earlier)
    found.note(run, usage_figures(codes.used))
    if codes.change is not None:
        before = usage_figures(codes.change.before)
        found.note(run, {f"{what}, before tuning": value for what, value in before.items()})
        found.note(run, {"indices that tuning has changed, %": 100 * codes.change.indices})
        found.note(run, {"relative squared change of the blocks": codes.change.blocks})
    found.note(run, correlation_figures(codes.used))
    found.note(run, {"relative squared error of reconstruction": codes.error})
    found.note(run, {"cosine of map and reconstruction": codes.cosine})
    return codes


def _pictures(
    request: Request, learner: Learner, images: TestImages, used: BlockCounts, run: int
) -> list[Panel]:
    """Reconstructions, images in which blocks are chosen, and feature maps on a plane."""
    frames = images.frames(learner.classes)
    few, some = (sample_frames(frames, count) for count in (request.frames, request.images))
    panels = [maps_panel(shown(learner, images.reading(learner, few), images.images))]
    blocks = telling_blocks(used)[:_BLOCKS].tolist()
    reading = images.reading(learner, frames)
    chosen = block_images(learner, reading, images.images, blocks, _IMAGES_OF_A_BLOCK)
    panels.append(block_images_panel(chosen, run))
    maps, rebuilt = flat_maps(learner, images.reading(learner, some))
    labels = some.labels.tolist()
    placed = embedding_panel(maps, rebuilt, labels, learner.classes, request.embedding)
    return [*panels, *([placed] if placed else [])]


def _draw_codes(codes: Mapping[int, Codes], found: Findings) -> None:
    if not codes:
        return
    states = {_NOW: [of_run.used for of_run in codes.values()]}
    changes = [of_run.change for of_run in codes.values() if of_run.change is not None]
    if changes:
        states[_BEFORE] = [change.before for change in changes]
    run, first = next(iter(codes.items()))
    found.panels += [usage_panel(states), class_usage_panel(states)]
    found.panels += [lift_panel(first.used, run), information_panel(states[_NOW])]


def _draw_stream(
    runs: Sequence[SavedRun], images: TestImages, device: str, found: Findings
) -> None:
    """Analyses that need the learner after each task."""
    kept = {saved.run: snapshots(saved, images, device) for saved in runs if len(saved.tasks) > 1}
    known = {run: taken for run, taken in kept.items() if taken is not None}
    if not known:
        return
    drifts = drift_panel([*known.values()])
    found.panels += [error_panel([*known.values()]), *([drifts] if drifts else [])]
    for run, taken in known.items():
        last = taken.tasks[-1]
        ends = {key[0]: value for key, value in taken.drifts().items() if key[1] == last > key[0]}
        if ends:
            task = min(ends)
            what = f"relative squared drift of the exemplars of task {task}"
            found.note(run, {what: ends[task]})


def _draw_perturbations(arms: Mapping[str, Accuracies], found: Findings) -> None:
    for arm, accuracy in arms.items():
        for run, tested in accuracy.items():
            found.note(run, {f"{arm}: accuracy, %": tested[NONE]})
        for kind, of_runs in drops(accuracy).items():
            for run, lost in of_runs.items():
                found.note(run, {f"{arm}: lost with {MEANING[kind]}, %": 100 * lost})
    found.panels.append(drop_panel(arms))
    if len(arms) < 2:
        return
    names, (own, other) = [*arms], arms.values()
    for kind, of_runs in advantages(own, other).items():
        for run, more in of_runs.items():
            what = f"{names[0]} loses less with {MEANING[kind]}, points"
            found.note(run, {what: 100 * more})
    if (panel := advantage_panel(names, own, other)) is not None:
        found.panels.append(panel)
