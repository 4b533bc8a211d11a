"""Progress of long work: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sized
from typing import Any, TextIO

from tqdm import tqdm

# Seconds between two lines of one loop, in the log of a job.
_SECONDS = 30.0
_LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {remaining} left"
# From this many on, a line says at once what is going on.
_MANY = 500


def announce(line: str) -> None:
    """Print one line about the work to standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def bar(iterable: Iterable[Any] | None, desc: str, unit: str, **more: Any) -> tqdm:
    """A loop's progress, rate and time left, on standard error.

    On a terminal this is a bar. Elsewhere it is a line every 30 seconds, and one at the start of
    long loops. Short loops print nothing.

    Args:
        iterable: to be looped over; None where the caller updates the bar.
        desc: what is done.
        unit: what is counted, in the singular.
        more: arguments of :class:`tqdm.tqdm`.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, desc, unit=unit, **more)
    units = f" {unit}{'es' if unit.endswith(('s', 'tch')) else 's'}"
    total = more.get("total") or (len(iterable) if isinstance(iterable, Sized) else 0)
    if total >= _MANY:
        announce(f"{desc}: {total:,}{units}")
    slow = {"mininterval": _SECONDS, "maxinterval": _SECONDS, "delay": _SECONDS, "leave": False}
    return tqdm(
        iterable, desc, unit=units, file=_Lines(sys.stderr), bar_format=_LINE, **{**more, **slow}
    )


class _Lines:
    """A file that takes each state of a bar as a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self._file.write(f"{line}\n")

    def flush(self) -> None:
        self._file.flush()


class RunProgress:
    """Batches of one run: a bar on a terminal, elsewhere a line at the start and after each test.

    Args:
        name: of the method and the run.
        total: batches of the run.
        done: batches that an earlier call has learned.
    """

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self._name, self._total, self._done = name, total, done
        self._first, self._started = done, time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit="batch", desc=name)
        else:
            announce(f"{name}: {total - done:,} batches to learn")

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self) -> None:
        """One batch more is learned."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def tested(self, where: str, accuracy: float) -> None:
        """A test is over.

        Args:
            where: task and epoch.
            accuracy: percent of the images of all classes so far.
        """
        if self._bar is not None:
            self._bar.set_description(f"{self._name}, {where}", refresh=False)
            self._bar.set_postfix(accuracy=f"{accuracy:.1f} %")
            return
        rate = (self._done - self._first) / max(time.monotonic() - self._started, 1e-9)
        left = f", {_clock((self._total - self._done) / rate)} left" if rate else ""
        announce(f"{self._name}, {where}: {accuracy:.1f} %, {rate:.1f} batches/s{left}")


def _clock(seconds: float) -> str:
    return tqdm.format_interval(max(0, round(seconds)))
