"""Kill streams at random moments, and check that their results are still the same bytes."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from soak.child import PHASES, Child
from soak.comparison import differences
from soak.sample import short_stream

_ARRIVAL = ("--write-policy", "on-arrival")
CASES: Mapping[str, Sequence[str]] = {
    "crumb": ("--memory-size", "10"),
    "on arrival": ("--memory-size", "10", *_ARRIVAL),
    "images": ("--storage", "image", "--memory-size", "10", *_ARRIVAL),
    "merec": ("--storage", "merec"),
    "best epoch": ("--memory-size", "9", "--select-best-epoch", "--epochs", "3"),
    "finetune": ("--method", "finetune"),
    "offline": ("--method", "offline"),
}
_ALWAYS = ("--runs", "2", "--classes-per-task", "1", "--epochs-first-task", "2", "--save-model")
# Trials that fill their own cache, so that kills hit the filling.
_FRESH_SHARE = 0.3
_LARGEST_DELAY = 0.02
# Give up if a stream always ends before its kill.
_ATTEMPTS = 50


@dataclass(frozen=True)
class Undisturbed:
    """The undisturbed streams of a case.

    Attributes:
        results: results folder.
        features: its filled feature cache.
        seconds: its seconds, by whether it filled its own cache.
        entered: number of times that each phase was entered.
    """

    results: Path
    features: Path
    seconds: Mapping[bool, float]
    entered: Mapping[str, int]


@dataclass(frozen=True)
class Trial:
    """One stream that was killed and resumed.

    Attributes:
        number: number of the trial, from 0.
        case: case, one of ``CASES``.
        phases: phases that were killed.
        differences: differences from the undisturbed runs; empty if all is well.
        folder: folder of the trial, removed if nothing differs.
    """

    number: int
    case: str
    phases: tuple[str, ...]
    differences: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Kills:
    """All trials.

    Attributes:
        seed: seed of their draws.
        trials: the trials, in order.
    """

    seed: int
    trials: tuple[Trial, ...]

    @property
    def failed(self) -> list[Trial]:
        """The trials with other results."""
        return [trial for trial in self.trials if trial.differences]

    def by_phase(self) -> dict[str, int]:
        """Number of kills in each phase."""
        counts = Counter(phase for trial in self.trials for phase in trial.phases)
        return {phase: counts[phase] for phase in PHASES}


def run_kills(count: int, seed: int, cases: Sequence[str] = tuple(CASES)) -> Kills:
    """Kill streams, resume them, and compare their results.

    Args:
        count: number of trials.
        seed: seed of all draws. The exact moment of a kill also depends on the machine.
        cases: cases, which take turns.

    Returns:
        the trials. The folders of failed trials are kept.
    """
    root = Path(tempfile.mkdtemp(prefix="crumb-soak-"))
    words = short_stream(root)
    # What forks the streams starts slowly; a stream timed with it would be killed too late.
    Child(["--version"], root).end()
    wholes, trials = dict[str, Undisturbed](), list[Trial]()
    with tqdm(total=count, desc="kills", unit="stream", disable=None) as progress:
        for number in range(count):
            case = cases[number % len(cases)]
            if case not in wholes:
                wholes[case] = _undisturbed(root, case, words)
            trials.append(_Attempt(root, number, case, words, wholes[case], seed).trial())
            progress.update()
    kills = Kills(seed, tuple(trials))
    if not kills.failed:
        shutil.rmtree(root)
    return kills


def _undisturbed(root: Path, case: str, words: Sequence[str]) -> Undisturbed:
    """Stream twice. The first stream fills the cache for the second one and for later trials."""
    folder = root / "undisturbed" / case.replace(" ", "-")
    folder.mkdir(parents=True)
    seconds, entered, features = dict[bool, float](), dict[str, int](), folder / "features"
    for fresh, name in ((True, "filling"), (False, "results")):
        child = Child(_stream(words, case, folder / name, features), folder)
        seconds[fresh] = child.seconds()
        _require_success(child)
        entered = {phase: child.marks.count(phase) for phase in PHASES}
    if found := differences(folder / "filling", folder / "results"):
        raise RuntimeError(f"{case}: two undisturbed streams differ: {'; '.join(found)}")
    entered = {phase: count for phase, count in entered.items() if count}
    return Undisturbed(folder / "results", features, seconds, entered)


def _stream(
    words: Sequence[str], case: str, results: Path, cache: Path, batches: int = 1
) -> list[str]:
    return [
        "stream",
        *words,
        *_ALWAYS,
        *CASES[case],
        *("--checkpoint-batches", str(batches)),
        *("--output", str(results), "--feature-cache-folder", str(cache)),
    ]


def _require_success(child: Child) -> None:
    if code := child.end():
        raise RuntimeError(f"an undisturbed stream ended with {code}: {_last_line(child.log)}")


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]


class _Attempt:
    """A running trial. Arguments as in :class:`Trial` and :func:`run_kills`."""

    def __init__(
        self,
        root: Path,
        number: int,
        case: str,
        words: Sequence[str],
        whole: Undisturbed,
        seed: int,
    ) -> None:
        self._number, self._case, self._whole = number, case, whole
        self._draw = random.Random(f"{seed} {number}")
        self._folder = root / f"trial{number}"
        self._results = self._folder / "results"
        self._fresh = self._draw.random() < _FRESH_SHARE
        cache = self._folder / "features" if self._fresh else whole.features
        batches = self._draw.choice((1, 2))
        self._words = _stream(words, case, self._results, cache, batches)

    def trial(self) -> Trial:
        """Kill once or twice, resume until the end, and compare."""
        phases = [self._first_kill()]
        child = self._go_on()
        if self._number % 3 == 0:
            self._kill(child)
            if child.killed:
                phases.append(child.marks.phase)
                child = self._go_on()
        if code := child.end():
            found = [f"{child.log.name}: ended with {code}: {_last_line(child.log)}"]
        else:
            found = differences(self._whole.results, self._results)
        if not found:
            shutil.rmtree(self._folder)
        return Trial(self._number, self._case, tuple(phases), tuple(found), self._folder)

    def _first_kill(self) -> str:
        for _ in range(_ATTEMPTS):
            # A stream that ended before its kill does not count.
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
            child = Child(self._words, self._folder)
            self._kill(child)
            if child.killed:
                return child.marks.phase
            _require_success(child)
        raise RuntimeError(f"trial {self._number}: every one of {_ATTEMPTS} streams was too fast")

    def _kill(self, child: Child) -> None:
        """Kill at a random time of the undisturbed stream, or in half of the trials after a phase
        starts.

        Otherwise kills would rarely hit phases of a few milliseconds.
        """
        if self._number % 2:
            child.kill_after(self._draw.random() * self._whole.seconds[self._fresh])
        else:
            phase = self._draw.choice([*self._whole.entered])
            occurrence = self._draw.randint(1, self._whole.entered[phase])
            # A phase of less than a millisecond ends before any delay.
            delay = self._draw.choice((0.0, self._draw.random() * _LARGEST_DELAY))
            child.kill_in(phase, occurrence, delay)

    def _go_on(self) -> Child:
        """Continue as a user does: with --resume, or with a new call if nothing was written."""
        begun = (self._results / "config.toml").exists()
        resume = ["stream", "--resume", str(self._results)]
        return Child(resume if begun else self._words, self._folder)
