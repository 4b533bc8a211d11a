"""``crumb analyse``: what the codebooks of saved learners hold and what the learners look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from crumb.analysis.block_classes import count_table
from crumb.analysis.embedding import Embedding
from crumb.analysis.suite import Findings, Request, analyse
from crumb.cli.parsing import parse
from crumb.cli.tables import check_free
from crumb.data.index import load_dataset
from crumb.device import choose_device
from crumb.errors import InputError
from crumb.files import write_csv
from crumb.kinds import Argument
from crumb.reports.intervals import over_runs
from crumb.reports.panels import read_panels, write_panel
from crumb.reports.table import plain
from crumb.stream.config import at_least

HEAD = ("what", "run", "value")
"""Columns of ``analysis.csv``."""
_COUNTS = "slice,block,"
_MAX_IMAGES, _MAX_FRAMES = 5_000, 50


@dataclass(frozen=True)
class Analyse:
    """Analyse saved learners on the test images of their data set.

    Writes figures, their numbers and a table of key numbers: use of memory blocks, blocks per
    class, reconstructions, drift of exemplars, and accuracy under perturbations.
    """

    learners: Annotated[tuple[Path, ...], Argument(positional=True)]
    """Learner files saved by `crumb stream`, or the results folder that holds them. Runs with
    `--save-tasks` also show each task."""
    dataset: Path
    """Folder written by `crumb index` on which the learners were trained."""
    before: Path | None = None
    """File with the codebook before the stream (from `crumb pretrain`), to show what the stream
    changed. {run} in its name stands for the run number."""
    versus: tuple[Path, ...] = ()
    """Learners of another arm with the same run numbers, to compare robustness to perturbations."""
    stylised: Path | None = None
    """Folder of stylised images, with the same layout and names as the data set's images."""
    embedding: Embedding = "pca"
    """Projection of feature maps to two dimensions: pca, or tsne (needs scikit-learn)."""
    images: int = 300
    """Maximum number of test images in the projection."""
    frames: int = 4
    """Maximum number of test images whose reconstruction is drawn."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    output: Path | None = None
    """Output folder for the figures. Default: `analysis` next to the first learner."""

    def __post_init__(self) -> None:
        if not self.learners:
            raise InputError("LEARNERS", "is empty", "give files or a results folder")
        at_least("images", self.images, 1, _MAX_IMAGES)
        at_least("frames", self.frames, 1, _MAX_FRAMES)


def run(words: Sequence[str]) -> None:
    """Analyse the learners, write the figures and print the key numbers."""
    command = parse(Analyse, words, "crumb analyse")
    first = command.learners[0]
    folder = command.output or (first if first.is_dir() else first.parent) / "analysis"
    numbers, counts = folder / "analysis.csv", folder / "block_class_counts.csv"
    check_free({numbers: ",".join(HEAD), counts: _COUNTS}, "an analysis")
    request = Request(
        command.learners,
        load_dataset(command.dataset),
        choose_device(command.device),
        command.before,
        command.versus,
        command.stylised,
        command.embedding,
        command.images,
        command.frames,
    )
    found = analyse(request)
    for panel in found.panels:
        write_panel(panel, folder)
    rows = [(what, run, v) for what, of in found.values.items() for run, v in of.items()]
    write_csv(numbers, rows, HEAD)
    if found.counts is not None:
        header, table = count_table(found.counts)
        write_csv(counts, table, header)
    print(key_numbers(found))
    print(f"{len(found.panels)} figures with their numbers: {folder}")
    drawn = {panel.name for panel in found.panels}
    if left := [panel.name for panel in read_panels(folder) if panel.name not in drawn]:
        print(f"files left by an earlier call: {', '.join(left)}")


def key_numbers(found: Findings) -> str:
    """Table of the key numbers: mean and 95 % bootstrap interval over runs."""
    rows = []
    for what, of_runs in found.values.items():
        value = over_runs([*of_runs.values()])
        span = "-" if value.low is None else f"{value.low:.4g} to {value.high:.4g}"
        rows.append([what, f"{value.mean:.4g}", span, str(value.runs)])
    return plain(["what", "mean", "95 % interval", "runs"], rows).text()
