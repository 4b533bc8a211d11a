"""Measure seconds and bytes of calls, to compare calls with each other."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from crumb.progress import bar

_PAGE = 4096


def seconds(call: Callable[[], object], device: str) -> float:
    """Seconds of one call. Waits for a GPU before and after."""
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - started


def interleaved(
    contestants: Mapping[str, Callable[[], float]], repeats: int, title: str
) -> dict[str, float]:
    """Median seconds of several functions that take turns.

    They take turns (A B A B ...), so that a slowdown of the machine affects all of them equally.
    The first turn of each warms up caches and does not count.

    Args:
        contestants: functions by name. Each returns its own seconds, so it can prepare without
            being measured.
        repeats: number of turns that count.
        title: title of the progress bar.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    turns = [*contestants.items()] * (repeats + 1)
    for name, turn in bar(turns, title, "turn", leave=False):
        times[name].append(turn())
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def timed(calls: Mapping[str, Callable[[], object]], device: str) -> dict[str, Callable[[], float]]:
    """Functions for :func:`interleaved` that need no preparation."""
    return {name: lambda call=call: seconds(call, device) for name, call in calls.items()}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """A context in which torch uses this number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_counts() -> list[int]:
    """One thread, and torch's default number of threads if it is another."""
    return sorted({1, torch.get_num_threads()})


def in_words(count: int) -> str:
    """A number of threads."""
    return f"{count} thread{'s' * (count > 1)}"


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """Peak bytes of tensors during a call, above the bytes before it.

    Uses one thread on a CPU, because allocations of other threads are not seen.
    """
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    # The profiler writes to stderr when it starts and stops, and if there is no GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    activities = [ProfilerActivity.CPU]
    with threads(1), profile(activities=activities, profile_memory=True) as profiler:
        call()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()  # type: ignore[attr-defined]
            peak = max(peak, held)
    return peak


def peak_resident(call: Callable[[], object]) -> int | None:
    """Peak resident memory during a call, above the resident memory before it, in bytes.

    Returns:
        at least one page; None if Linux's /proc/self is missing or not writable.
    """
    try:
        before = _resident("VmRSS")
        # This resets the peak.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    call()
    return max(_PAGE, _resident("VmHWM") - before)


def _resident(kind: str) -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{kind}:"))
    return 1024 * int(line.split()[1])


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
