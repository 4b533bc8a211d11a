"""The report: a table for the screen, ``reliability.json`` and ``reliability.png``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crumb.benchmarks.report import machine
from crumb.files import write_bytes, write_json
from crumb.reports.table import plain
from soak.frames import CLASSES, LongRun
from soak.kills import Kills

FORMAT, VERSION = "crumb-soak", 1
LARGEST_GROWTH, LARGEST_SLOWDOWN = 0.01, 1.1
_CHANCE = 100 / CLASSES
_MIB = 1 << 20
# Number of points in the plot, each for the same number of steps.
_BINS = 100
# The palette of Okabe and Ito, as in other figures.
_COLOUR = "#0072B2"


def kills_pass(kills: Kills) -> bool:
    """Whether every killed run ended in the same bytes."""
    return not kills.failed


def frames_pass(run: LongRun) -> bool:
    """Whether memory did not grow, and the learner learned something."""
    return run.growth < LARGEST_GROWTH and learned(run)


def learned(run: LongRun) -> bool:
    """Whether the accuracy is well above chance."""
    return run.accuracy > 3 * _CHANCE


def kills_text(kills: Kills) -> str:
    """The phases of the kills, the failures, and the verdict."""
    rows = [["killed while", "kills"], *([p, str(n)] for p, n in kills.by_phase().items())]
    lines = [plain(rows[0], rows[1:]).text()]
    for trial in kills.failed:
        where = f"{trial.case}, seed {kills.seed}, killed while {' and '.join(trial.phases)}"
        lines.append(f"trial {trial.number} ({where}), kept in {trial.folder}:")
        lines += [f"  {difference}" for difference in trial.differences]
    same, total = len(kills.trials) - len(kills.failed), len(kills.trials)
    return "\n".join([*lines, f"{same} of {total} killed runs ended in the same bytes"])


def frames_text(run: LongRun) -> str:
    """Memory, time and accuracy, with their targets."""
    flat = "flat" if 1 / LARGEST_SLOWDOWN < run.slowdown < LARGEST_SLOWDOWN else "not flat"
    rows = [
        [f"{run.frames:,} frames in {run.seconds:,.0f} s", "at first", "last tenth", "change"],
        _memory_row("resident memory, MiB (median)", run.resident_before, run.resident_after),
        _memory_row("resident memory, MiB (most)", run.most_before, run.most_after),
        [
            "a step, ms of processor time",
            f"{1000 * run.step_before:.2f}",
            f"{1000 * run.step_after:.2f}",
            f"x {run.slowdown:.2f}",
        ],
    ]
    grown = "stayed the same" if run.growth < LARGEST_GROWTH else "GREW"
    return "\n".join(
        [
            plain(rows[0], rows[1:]).text(),
            f"memory {grown} (allowed: {100 * LARGEST_GROWTH:g} %); the time of a step is {flat}; "
            f"accuracy {run.accuracy:.1f} % (by chance {_CHANCE:g} %)",
        ]
    )


def _memory_row(name: str, before: float, after: float) -> list[str]:
    change = 100 * (after / before - 1)
    return [name, f"{before / _MIB:.1f}", f"{after / _MIB:.1f}", f"{change:+.2f} %"]


def write_report(folder: Path, kills: Kills | None, run: LongRun | None) -> list[Path]:
    """Write the numbers, and the figure of the long run.

    Args:
        folder: made if missing.
        kills: result of the first part, if it ran.
        run: result of the second part, if it ran.

    Returns:
        the files.

    Raises:
        InputError: a file cannot be written.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "machine": machine("cpu"),
        "kills": None if kills is None else _kills_json(kills),
        "frames": None if run is None else _frames_json(run),
    }
    files = [folder / "reliability.json"]
    write_json(files[0], content)
    if run is not None:
        files.append(folder / "reliability.png")
        _draw(run, files[1])
    return files


def _kills_json(kills: Kills) -> dict[str, Any]:
    return {
        "seed": kills.seed,
        "trials": len(kills.trials),
        "same": len(kills.trials) - len(kills.failed),
        "kills": kills.by_phase(),
        "failed": [
            {
                "trial": trial.number,
                "case": trial.case,
                "phases": trial.phases,
                "differences": trial.differences,
            }
            for trial in kills.failed
        ],
    }


def _frames_json(run: LongRun) -> dict[str, Any]:
    return {
        "frames": run.frames,
        "seconds": round(run.seconds, 1),
        "resident_bytes": {
            "median_in_first_tenth": int(run.resident_before),
            "median_in_last_tenth": int(run.resident_after),
            "growth": run.growth,
            "most_in_first_tenth": int(run.most_before),
            "most_in_last_tenth": int(run.most_after),
        },
        "step_seconds": {
            "second_tenth": run.step_before,
            "last_tenth": run.step_after,
            "ratio": run.slowdown,
        },
        "accuracy": run.accuracy,
    }


def step_bands(run: LongRun) -> Mapping[str, np.ndarray]:
    """Frames so far, and three percentiles of the milliseconds of a step, (bins,) each."""
    # The first step has no earlier step to measure from.
    parts = np.array_split(run.steps[1:], min(_BINS, len(run.steps) - 1))
    low, median, high = np.array([np.percentile(1000 * part, (10, 50, 90)) for part in parts]).T
    frames = np.cumsum([len(part) for part in parts]) * run.frames / len(run.steps)
    return {"frames": frames, "low": low, "median": median, "high": high}


def _draw(run: LongRun, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), dpi=100, layout="constrained")
    memory, step = figure.subplots(1, 2)
    looks = np.arange(1, len(run.resident) + 1) * run.frames / len(run.resident)
    memory.plot(looks, run.resident / _MIB, color=_COLOUR, lw=1.2)
    memory.set(ylabel="resident memory, MiB", ylim=(0, 1.15 * run.resident.max() / _MIB))
    memory.set_title(f"Memory: {100 * run.growth:+.2f} % from the first tenth to the last")
    bands = step_bands(run)
    step.plot(bands["frames"], bands["median"], color=_COLOUR, lw=1.2, label="median")
    step.fill_between(
        bands["frames"],
        bands["low"],
        bands["high"],
        color=_COLOUR,
        alpha=0.15,
        lw=0,
        label="10 to 90 % of the steps",
    )
    step.set(ylabel="processor time of a step, ms", ylim=(0, 1.3 * bands["high"].max()))
    step.set_title(f"Time: the last tenth takes {run.slowdown:.2f} x the second")
    step.legend(frameon=False, loc="upper right", ncols=2)
    for axes in (memory, step):
        axes.set(xlabel="frames learned", xlim=(0, run.frames))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.3)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_bytes(path, content.getvalue())
