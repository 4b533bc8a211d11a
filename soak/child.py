"""Run ``crumb`` in a process that can be killed and that reports its phase."""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

import crumb.stream.loop
import crumb.stream.run
from crumb.cli.main import main
from crumb.features.store import Store
from crumb.methods.base import Learner
from crumb.methods.crumb import Crumb
from crumb.methods.finetune import Finetune
from crumb.methods.registry import methods
from crumb.stream.checkpoint import Checkpoints
from crumb.stream.results import Results

PHASES = (
    "starting",
    "writing the settings",
    "computing features",
    "reading a checkpoint",
    "between batches",
    "learning a batch",
    "storing pass",
    "testing",
    "writing a checkpoint",
    "writing results",
    "between runs",
)
(_, SETTINGS, FEATURES, READING, BATCHES, LEARNING, STORING, TESTING, SAVING, RESULTS, RUNS) = (
    PHASES
)
_PLACES: tuple[tuple[str, type | ModuleType, str], ...] = (
    (SETTINGS, Results, "__enter__"),
    (FEATURES, Store, "hold"),
    (READING, Checkpoints, "restore"),
    (LEARNING, Crumb, "learn"),
    (LEARNING, Finetune, "learn"),
    (STORING, Crumb, "end_task"),
    (TESTING, crumb.stream.loop, "evaluate"),
    (SAVING, Checkpoints, "save"),
    (RESULTS, Learner, "save"),
    (RESULTS, Results, "add"),
    (BATCHES, crumb.stream.run, "run_once"),
)
_POLL_SECONDS = 0.0005

# Modules that a stream imports later. Importing them takes longer than streaming.
_IMPORTED = (
    "crumb.cli.stream",
    "crumb.cli.tables",
    "crumb.methods.persistence",
    "scipy.special",
    "timm",
    "torchvision.ops",
)
methods()
# Children are forks of a server, a new process that has only imported these modules. A fork copies
# only the calling thread, so locks of other threads would stay locked forever. The server has no
# other threads, because it has run no operation of torch that starts some. Threads of the caller of
# this module are not in the server.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, *_IMPORTED])


class Marks:
    """The phase of a child, in memory that survives the child.

    Args:
        path: path of the file behind the memory, made if missing.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            np.zeros(1 + len(PHASES), np.uint32).tofile(path)
        self._numbers = np.memmap(path, np.uint32, mode="r+")

    @property
    def phase(self) -> str:
        """The innermost phase that has not ended."""
        return PHASES[self._numbers[0]]

    def count(self, phase: str) -> int:
        """Number of times that a phase was entered."""
        return int(self._numbers[1 + PHASES.index(phase)])

    def enter(self, phase: str) -> None:
        """Count and show a phase."""
        self._numbers[1 + PHASES.index(phase)] += 1
        self.show(phase)

    def show(self, phase: str) -> None:
        """Go back to an outer phase."""
        self._numbers[0] = PHASES.index(phase)


class Child:
    """One call of ``crumb`` in its own process.

    Args:
        words: words of the command line.
        folder: existing folder for marks and output of the call.

    Attributes:
        marks: marks of the phases.
        log: output of the process.
    """

    def __init__(self, words: list[str], folder: Path) -> None:
        number = len([*folder.glob("*.log")])
        self.log = folder / f"call{number}.log"
        self.log.touch()
        self._began = time.monotonic()
        path = folder / f"call{number}.marks"
        self.marks = Marks(path)
        self._process = _CONTEXT.Process(target=_call, args=(words, path, self.log), daemon=True)
        self._process.start()

    @property
    def killed(self) -> bool:
        """Whether it was killed before it ended by itself."""
        return self._process.exitcode is not None and self._process.exitcode < 0

    def end(self) -> int:
        """Wait for its exit code."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def seconds(self) -> float:
        """Wait for its end. Returns the seconds since its start."""
        self.end()
        return time.monotonic() - self._began

    def kill_after(self, seconds: float) -> None:
        """Kill it this many seconds after its start, unless it ends before."""
        self._process.join(max(0.0, self._began + seconds - time.monotonic()))
        self._kill()

    def kill_in(self, phase: str, occurrence: int, delay: float) -> None:
        """Kill it ``delay`` seconds after it enters a phase for the nth time."""
        while self.marks.count(phase) < occurrence and self._process.is_alive():
            time.sleep(_POLL_SECONDS)
        self._process.join(delay)
        self._kill()

    def _kill(self) -> None:
        self._process.kill()
        self.end()


def _call(words: list[str], marks: Path, log: Path) -> None:
    """In the child: run the command and exit immediately."""
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    # The usual lock is shared by processes, and would stay locked after a kill.
    tqdm.set_lock(threading.RLock())
    shown = Marks(marks)
    for phase, owner, name in _PLACES:
        setattr(owner, name, _marked(getattr(owner, name), phase, shown))
    os._exit(main(words))


def _marked(function: Callable[..., Any], phase: str, marks: Marks) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        outer = marks.phase
        marks.enter(phase)
        try:
            return function(*arguments, **named)
        finally:
            # The start phase of a stream ends with its first run.
            if phase == BATCHES:
                marks.enter(RUNS)
            else:
                marks.show(outer)

    return call
