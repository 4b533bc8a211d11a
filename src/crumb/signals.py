"""Signals that end a command gracefully."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from crumb.errors import Terminated

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C; an orderly end; a terminal that is closed; the warnings that SLURM and Grid Engine send
before they kill a job."""


def handle(handler: Callable[[int, FrameType | None], None]) -> dict[signal.Signals, Any]:
    """Let ``handler`` take all of them but those that are ignored, as SIGHUP is under nohup.

    Returns:
        the handlers until now, for :func:`restore`.
    """
    taken = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in taken}


def restore(handlers: dict[signal.Signals, Any]) -> None:
    """Put back what :func:`handle` replaced."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def ignore() -> None:
    """Ignore signals in a worker process: they reach the whole process group, and the main process
    handles them.

    SIGTERM is kept, because the main process sends it.
    """
    for number in ENDING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)


def interruption(number: int, *words: str) -> BaseException:
    """The exception for a signal; ``words`` are its arguments."""
    if number == signal.SIGINT:
        return KeyboardInterrupt(*words)
    return Terminated(*words, number=number)
