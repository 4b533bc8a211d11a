"""Rows ``store``, ``experiment`` and ``checkpoint``: whole runs.

The first two are runs with and without the feature store, starting without cached features. They
are compared with an ESTIMATE of the time of the original code for the same images and protocol on
this machine (see :mod:`crumb.benchmarks.estimate`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from crumb.benchmarks.estimate import Estimate, measure_units, original_work
from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.workplace import Workplace
from crumb.methods.registry import find_method
from crumb.stream.record import RunRecord
from crumb.stream.run import stream
from crumb.stream.tasks import epochs_of, tasks_of

# Smallest acceptable ratios of the estimates: for one run, and for an experiment of ten.
_ONE_RUN, _TEN_RUNS = 10.0, 30.0
# Largest acceptable share of checkpoints in the time of a run.
_CHECKPOINTS = 0.02


@dataclass(frozen=True)
class Timed:
    """Some runs and their total time.

    Attributes:
        seconds: seconds from the call to the finished results folder.
        records: records of the runs.
    """

    seconds: float
    records: Sequence[RunRecord]


class WholeRuns:
    """The runs that both rows share. Each is done on first use.

    Args:
        place: workplace with settings and data.
    """

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._stores = {}

    @cached_property
    def first(self) -> Timed:
        """Run 0 with an empty feature store, which it fills."""
        return self._stream("first", 0, 1, cached=True)

    @cached_property
    def later(self) -> Timed:
        """The other runs of the experiment, with the store filled by the first one."""
        count = self._place.setting.runs - 1
        return self._stream("later", 1, count, cached=True) if count else Timed(0.0, [])

    @cached_property
    def without(self) -> Timed:
        """Run 0 without a store: every use of an image computes the front."""
        return self._stream("without", 0, 1, cached=False)

    @cached_property
    def estimate(self) -> Estimate:
        """Estimated time of the original code for run 0."""
        config = self._place.stream_config()
        tasks = tasks_of(config, self._place.dataset, 0, offline=False)
        work = original_work(tasks, epochs_of(config, tasks), config.batch_size)
        return Estimate(work, measure_units(self._place))

    def _stream(self, name: str, first: int, count: int, cached: bool) -> Timed:
        place = self._place
        config = place.stream_config(
            first_run=first, runs=count, output=place.folder / "results" / name
        )
        if not cached:
            config = replace(config, machine=replace(config.machine, feature_cache="off"))
        method = find_method(config.method).Config()
        stores = self._stores if cached else {}
        started = time.perf_counter()
        results = stream(config, place.setting.network, method, stores)
        return Timed(time.perf_counter() - started, results.finished())


def measure_store(runs: WholeRuns) -> list[Comparison]:
    """Ratios to one run with the store: of a run without it, and of the estimate."""
    ours = runs.first
    with_store = Figure("crumb", ours.seconds)
    return [
        Comparison(
            "store",
            "one run that fills the feature store",
            (Figure("without", runs.without.seconds), with_store),
            details={"with": profile([ours]), "without": profile([runs.without])},
            note=f"seconds with the store: {_words([ours])}; without: {_words([runs.without])}",
        ),
        Comparison(
            "store",
            "one run, ESTIMATE of the original",
            (Figure("original", runs.estimate.seconds), with_store),
            at_least=_ONE_RUN,
            details=asdict(runs.estimate),
        ),
    ]


def measure_experiment(runs: WholeRuns) -> list[Comparison]:
    """Ratios to one run of several that share the store: without it, and the estimate."""
    parts = [runs.first, runs.later]
    count = sum(len(part.records) for part in parts)
    a_run = Figure("crumb", sum(part.seconds for part in parts) / count)
    return [
        Comparison(
            "experiment",
            f"a run of {count} that share the feature store",
            (Figure("without", runs.without.seconds), a_run),
            details={"runs": count, "a_run": profile(parts)},
            note=f"seconds a run: {_words(parts)}",
        ),
        Comparison(
            "experiment",
            f"a run of {count}, ESTIMATE of the original",
            (Figure("original", runs.estimate.seconds), a_run),
            at_least=_TEN_RUNS if count >= 10 else None,
            details={"runs": count},
        ),
    ]


def measure_checkpoint(runs: WholeRuns) -> list[Comparison]:
    """Ratio of the time of checkpoints to the time of learning and testing of one run."""
    (record,) = runs.first.records
    run = record.seconds + record.test_seconds + record.checkpoint_seconds
    return [
        Comparison(
            "checkpoint",
            "of a run without its features",
            (Figure("checkpoints", record.checkpoint_seconds), Figure("run", run)),
            at_most=_CHECKPOINTS,
            details={"tasks": len(record.scores)},
            note=f"{len(record.scores)} tasks, a checkpoint after each and every ten minutes",
        )
    ]


def profile(parts: Sequence[Timed]) -> dict[str, float]:
    """Seconds per run, by purpose. The store is filled once for all runs.

    Args:
        parts: parts of one experiment. The first one filled the store.
    """
    records = [record for part in parts for record in part.records]
    count = len(records)
    spent = {
        "features": records[0].feature_seconds / count,
        "training": sum(record.seconds for record in records) / count,
        "testing": sum(record.test_seconds for record in records) / count,
    }
    return spent | {"rest": sum(part.seconds for part in parts) / count - sum(spent.values())}


def _words(parts: Sequence[Timed]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in profile(parts).items())
