"""Row ``waiting``: time of a step if waiting threads sleep instead of spin.

It measures a training step of the tail on two threads, in processes that take turns. Threads learn
how to wait when torch is loaded, so each way needs its own process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.workplace import Workplace
from crumb.errors import InputError
from crumb.nets.config import NetworkConfig
from crumb.progress import bar

POLICIES = {
    "sleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    # The default of libgomp.
    "spin": {"GOMP_SPINCOUNT": "300000"},
}
_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_THREADS = 2
_SECONDS = 3.0
_AT_MOST = 1.03


def measure(place: Workplace) -> list[Comparison]:
    """Ratio of the time of a step with sleeping threads to the time with spinning threads."""
    taken: dict[str, list[list[float]]] = {name: [] for name in POLICIES}
    turns = [*POLICIES] * place.setting.repeats
    for name in bar(turns, "waiting", "turn", leave=False):
        taken[name].append(_in_process(name, place.setting.network))
    medians = {n: [statistics.median(c) for c in zip(*t, strict=True)] for n, t in taken.items()}
    figures = [Figure(name, medians[name][0]) for name in POLICIES]
    cpu = {f"cpu_seconds_{name}": medians[name][1] for name in POLICIES}
    what = f"training step, threads that wait sleep, {_THREADS} threads"
    note = "CPU seconds of a step: " + ", ".join(f"{n} {medians[n][1]:.4g}" for n in POLICIES)
    return [Comparison("waiting", what, figures, at_most=_AT_MOST, details=cpu, note=note)]


def _in_process(policy: str, network: NetworkConfig) -> list[float]:
    variables = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    variables |= POLICIES[policy] | {"OMP_NUM_THREADS": str(_THREADS)}
    call = (
        f"from crumb.benchmarks.waiting import child; child({network.backbone!r}, {network.cut!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", call], env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise InputError("the step on two threads", f"failed ({reason})", "leave the row out")
    return [float(word) for word in done.stdout.split()]


def child(backbone: str, cut: str | None, least: float = _SECONDS) -> None:
    """Print the median wall and CPU seconds of a step of a tail with random weights."""
    from crumb.benchmarks.tail import step
    from crumb.nets.backbones import build_network

    run = step(build_network(NetworkConfig(backbone, cut, weights="random")))
    for _ in range(5):
        run()
    wall, cpu, began = [], [], time.perf_counter()
    while not wall or time.perf_counter() - began < least:
        before = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - before[0])
        cpu.append(time.process_time() - before[1])
    sys.stdout.write(f"{statistics.median(wall)} {statistics.median(cpu)}\n")
