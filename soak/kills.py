"""Streams that are killed at random moments, and must end in the same bytes all the same."""

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
# Of the trials, those that fill a cache of their own: kills fall into the filling.
_FRESH_SHARE = 0.3
_LARGEST_DELAY = 0.02
# A stream that is always faster than its kill will not be slower the next time.
_ATTEMPTS = 50


@dataclass(frozen=True)
class Undisturbed:
    """What a case is when nothing happens.

    Attributes:
        results: its folder.
        features: its cache, filled.
        seconds: it took, by whether it filled a cache of its own.
        entered: how often each phase that there is was entered.
    """

    results: Path
    features: Path
    seconds: Mapping[bool, float]
    entered: Mapping[str, int]


@dataclass(frozen=True)
class Trial:
    """One stream that was killed and went on.

    Attributes:
        number: counted from 0.
        case: one of ``CASES``.
        phases: in which the kills fell.
        differences: from the undisturbed runs; none are as it should be.
        folder: of everything about it; removed if nothing differs.
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
        seed: of their draws.
        trials: in order.
    """

    seed: int
    trials: tuple[Trial, ...]

    @property
    def failed(self) -> list[Trial]:
        """The trials that ended otherwise."""
        return [trial for trial in self.trials if trial.differences]

    def by_phase(self) -> dict[str, int]:
        """Kills in each phase."""
        counts = Counter(phase for trial in self.trials for phase in trial.phases)
        return {phase: counts[phase] for phase in PHASES}


def run_kills(count: int, seed: int, cases: Sequence[str] = tuple(CASES)) -> Kills:
    """Kill streams, let them go on, compare.

    Args:
        count: of trials.
        seed: of all draws. When exactly a kill falls depends on the machine as well.
        cases: that take turns.

    Returns:
        the trials; the folders of those that failed are kept.
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
    """Stream twice: the first fills the cache that the second and later trials find."""
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
    """A trial while it goes on; arguments as in :class:`Trial` and :func:`run_kills`."""

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
        """Kill, once or twice; go on to the end; compare."""
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
            # One that ended before its kill is no killed one.
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
            child = Child(self._words, self._folder)
            self._kill(child)
            if child.killed:
                return child.marks.phase
            _require_success(child)
        raise RuntimeError(f"trial {self._number}: every one of {_ATTEMPTS} streams was too fast")

    def _kill(self, child: Child) -> None:
        """At any time of the undisturbed stream; half of the trials begin with a phase.

        Otherwise hardly a kill would fall into what takes a few milliseconds.
        """
        if self._number % 2:
            child.kill_after(self._draw.random() * self._whole.seconds[self._fresh])
        else:
            phase = self._draw.choice([*self._whole.entered])
            occurrence = self._draw.randint(1, self._whole.entered[phase])
            # What takes less than a millisecond is over after any delay.
            delay = self._draw.choice((0.0, self._draw.random() * _LARGEST_DELAY))
            child.kill_in(phase, occurrence, delay)

    def _go_on(self) -> Child:
        """As a user does: with --resume, or once more where nothing had begun."""
        begun = (self._results / "config.toml").exists()
        resume = ["stream", "--resume", str(self._results)]
        return Child(resume if begun else self._words, self._folder)
