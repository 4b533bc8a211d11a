"""Handle termination signals between batches, where the run can be saved."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from crumb import signals

# A signal that arrives sooner after another one is the same signal, e.g. sent to a process group.
_SAME_SECONDS = 1.0
_noted: list[tuple[int, float]] = []
_waiting = 0


@contextmanager
def signals_between_batches() -> Iterator[None]:
    """Defer signals in this context until :func:`raise_noted` or its end.

    A second signal, at least a second later, is raised immediately. Has no effect outside the main
    thread or on ignored signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _noted.clear()
    before = signals.handle(_note)
    try:
        yield
    finally:
        signals.restore(before)
    raise_noted()


@contextmanager
def defer_signals() -> Iterator[None]:
    """Code in this context finishes before :func:`raise_noted` raises."""
    global _waiting
    _waiting += 1
    try:
        yield
    finally:
        _waiting -= 1


def raise_noted() -> None:
    """Raise KeyboardInterrupt or Terminated if a signal has arrived."""
    if _noted and not _waiting:
        raise signals.interruption(_noted[0][0])


def _note(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if not _noted:
        _noted.append((number, now))
    elif now - _noted[0][1] > _SAME_SECONDS:
        raise signals.interruption(number, "at once")


def raised_immediately(error: BaseException) -> bool:
    """Whether a signal was raised immediately, perhaps in the middle of a step."""
    return error.args == ("at once",)
