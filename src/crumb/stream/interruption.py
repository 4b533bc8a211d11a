"""SIGINT and SIGTERM, taken notice of between two batches, where a run can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from crumb.errors import Terminated

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_noted: list[int] = []
_waiting = 0


@contextmanager
def noticed_between_batches() -> Iterator[None]:
    """Let :func:`raise_noted` raise what arrives; a second signal is raised where it arrives.

    Signals are those of the whole process: in a thread other than the main one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _noted.clear()
    before = {number: signal.signal(number, _note) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def not_now() -> Iterator[None]:
    """What happens in this context is finished before a signal is raised."""
    global _waiting
    _waiting += 1
    try:
        yield
    finally:
        _waiting -= 1


def raise_noted() -> None:
    """Raise KeyboardInterrupt or Terminated if a signal has arrived."""
    if _noted and not _waiting:
        _raise(_noted[0])


def _note(number: int, frame: FrameType | None) -> None:
    if _noted:
        _raise(number)
    _noted.append(number)


def _raise(number: int) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated
