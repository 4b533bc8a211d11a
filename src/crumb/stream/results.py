"""The results folder: accuracies as the published CSV files, and what lies next to them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crumb import __version__
from crumb.errors import InputError
from crumb.files import read_json, read_toml, write_csv, write_json, write_toml
from crumb.stream.evaluate import PATHS, TESTS, Score
from crumb.stream.metrics import backward_transfer, forgetting, mean_and_deviation

FORMAT, VERSION = "crumb-results", 1
# Settings that may differ between the calls that together make up one results folder.
_FREE = {
    "crumb",
    "output",
    "resume",
    "runs",
    "first_run",
    "workers",
    "feature_cache",
    "feature_cache_bytes",
    "feature_cache_folder",
    "test_batch_size",
    "save_model",
}
# Above every count of bytes; squares of it are still numbers.
_LARGEST = float(1 << 62)
_FIGURES = (
    "final_accuracy",
    "average_accuracy",
    "forgetting",
    "backward_transfer",
    "replay_bytes",
    "extra_bytes",
    "seconds",
    "images_per_second",
    "test_seconds",
    "feature_seconds",
    "peak_memory_bytes",
)


@dataclass
class RunRecord:
    """Everything measured in one run.

    Attributes:
        run: its number, which is its seed.
        classes: names in label order.
        scores: by task, then epoch.
        reported: for each task the epoch whose accuracy counts (the last, unless the best epoch
            on held-out training images was asked for).
        statistics: rows of mem_stats.csv.
        replay_bytes: largest number of bytes of exemplars held.
        extra_bytes: bytes held besides, when that was largest.
        seconds: of learning and storing.
        images: images learned from, each reading counted.
        peak_memory_bytes: of the process since it began (on a GPU: of the GPU in this run).
        test_seconds: of the tests after each epoch.
        feature_seconds: in which features to be kept were computed or checked, once for all runs
            and methods that share them.
    """

    run: int
    classes: list[str]
    scores: list[list[Score]] = field(default_factory=list)
    reported: list[int] = field(default_factory=list)
    statistics: list[dict[str, float]] = field(default_factory=list)
    replay_bytes: int = 0
    extra_bytes: int = 0
    seconds: float = 0.0
    images: int = 0
    peak_memory_bytes: int = 0
    test_seconds: float = 0.0
    feature_seconds: float = 0.0

    def after(self, task: int) -> Score:
        """The score that counts for a task."""
        return self.scores[task][self.reported[task]]

    def curve(self, k: int = 1, test: str = "all", path: str = "direct") -> list[float]:
        """An accuracy after each task, percent."""
        return [self.after(task).accuracy[k, test, path] for task in range(len(self.scores))]

    def matrix(self) -> list[list[float | None]]:
        """Accuracy after each task (row) on the classes of each task so far (column)."""
        return [self.after(task).by_task for task in range(len(self.scores))]

    def figures(self) -> dict[str, float | None]:
        """The key figures of the run, as in ``metrics.json``."""
        tops = self.curve()
        matrix = self.matrix()
        values = (
            tops[-1],
            sum(tops) / len(tops),
            forgetting(matrix),
            backward_transfer(matrix),
            self.replay_bytes,
            self.extra_bytes,
            self.seconds,
            self.images / self.seconds,
            self.test_seconds,
            self.feature_seconds,
            self.peak_memory_bytes,
        )
        return dict(zip(_FIGURES, values, strict=True))


# Settings that older folders do not know, and what they did.
_ADDED = {
    "stream.evaluation.mem_accuracy": True,
    "stream.machine.precision": "full",
    "stream.machine.deterministic": True,
    "stream.machine.compile": False,
}


class Results:
    """A results folder.

    As a context it is opened for writing: the settings are written on entry, and removed again if
    it is left by an error before any run is finished.

    Args:
        folder: made on entry if missing.
        settings: the resolved configuration, by section.
        resume: whether finished runs in it are to be kept.

    Raises:
        InputError: it holds results already (or, with ``resume``, those of other settings); on
            entry, it cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], resume: bool = False) -> None:
        self.folder = folder
        self._config = {
            "format": FORMAT,
            "version": VERSION,
            "crumb": __version__,
            **_plain(settings),
        }
        self._files = (folder / "config.toml", folder / "hyperparams.csv")
        self._is_new = not self._files[0].exists()
        if not self._is_new:
            self._check_same(self._files[0], resume)

    def __enter__(self) -> None:
        write_toml(self._files[0], self._config)
        write_csv(self._files[1], [*_flat(self._config).items()])

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and self._is_new and not self._paths():
            for path in self._files:
                path.unlink(missing_ok=True)
            # Other files of the user's may lie there.
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def _check_same(self, path: Path, resume: bool) -> None:
        if not resume:
            raise InputError(
                self.folder, "holds results already", "choose another --output, or add --resume"
            )
        old = _ADDED | _flat(read_toml(path, "remove the folder"))
        new = _ADDED | _flat(self._config)
        for name in sorted(old.keys() | new.keys()):
            if not _FREE & set(name.split(".")) and old.get(name) != new.get(name):
                raise InputError(
                    f"--resume {self.folder}",
                    f"was made with {name} = {old.get(name)}, not {new.get(name)}",
                    "use the same settings or another --output",
                )

    def finished(self) -> list[RunRecord]:
        """The runs in the folder, by number.

        Raises:
            InputError: a run is damaged.
        """
        return sorted(map(_read_record, self._paths()), key=lambda record: record.run)

    def _paths(self) -> list[Path]:
        return [*self.folder.glob("runs/run*.json")]

    def add(self, record: RunRecord) -> None:
        """Write one finished run and the tables over all runs; a run of its number is replaced."""
        name = f"run{record.run}"
        others = [other for other in self.finished() if other.run != record.run]
        for (k, test, path), table in _epochs(record).items():
            file = f"top{k}_test_{test}_{path}_all_epochs_{name}.csv"
            write_csv(self.folder / "all_epochs" / file, table)
        matrix = [[*row, *[None] * (len(record.scores) - len(row))] for row in record.matrix()]
        write_csv(self.folder / f"accuracy_matrix_{name}.csv", matrix)
        self._write_tables(sorted([*others, record], key=lambda record: record.run))
        # Last, as it is what makes the run a finished one.
        write_json(self.folder / "runs" / f"{name}.json", _record_json(record))

    def _write_tables(self, records: Sequence[RunRecord]) -> None:
        for key in records[0].scores[0][0].accuracy:
            k, test, path = key
            rows = [record.curve(*key) for record in records]
            write_csv(self.folder / f"top{k}_test_{test}_{path}_all_runs.csv", rows)
        statistics = [row for record in records for row in record.statistics]
        if statistics:
            rows = [[number, *row.values()] for number, row in enumerate(statistics)]
            write_csv(self.folder / "mem_stats.csv", rows, header=["", *statistics[0]])
        write_json(self.folder / "metrics.json", summarise(records))


def summarise(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Figures of each run, and their mean and sample standard deviation over the runs."""
    runs = [{"run": record.run, **record.figures()} for record in records]
    summary = {}
    for name in _FIGURES:
        values = [run[name] for run in runs if run[name] is not None]
        mean, deviation = mean_and_deviation(values) if values else (None, None)
        summary[name] = {"mean": mean, "std": deviation, "runs": len(values)}
    return {"format": FORMAT, "version": VERSION, "summary": summary, "runs": runs}


def _epochs(record: RunRecord) -> dict[tuple[int, str, str], list[list[float | str]]]:
    longest = max(len(epochs) for epochs in record.scores)
    return {
        key: [
            [*[score.accuracy[key] for score in epochs], *[""] * (longest - len(epochs))]
            for epochs in record.scores
        ]
        for key in record.scores[0][0].accuracy
    }


def _record_json(record: RunRecord) -> dict[str, Any]:
    value = asdict(record)
    value["scores"] = [
        [
            {
                "accuracy": {f"top{k}_{test}_{path}": v for (k, test, path), v in items},
                "by_task": score.by_task,
            }
            for score in epochs
            for items in [score.accuracy.items()]
        ]
        for epochs in record.scores
    ]
    return {"format": FORMAT, "version": VERSION, **value}


def _read_record(path: Path) -> RunRecord:
    remedy = "remove it to have the run done again"
    value = read_json(path, remedy)
    if (value.pop("format", None), value.pop("version", None)) != (FORMAT, VERSION):
        raise InputError(path, f"is no run of format version {VERSION}", remedy)
    try:
        value["scores"] = [
            [Score(_accuracy_keys(score["accuracy"]), score["by_task"]) for score in epochs]
            for epochs in value["scores"]
        ]
        record = RunRecord(**value)
        # What the tables are made of must be there: damage shows here or nowhere.
        if type(record.run) is not int:
            raise TypeError(f"the number {record.run!r}")
        _check_numbers(record)
        keys = [score.accuracy.keys() for epochs in record.scores for score in epochs]
        keys += [row.keys() for row in record.statistics]
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(path, f"is damaged ({error!r})", remedy) from error
    shapes = len({frozenset(part) for part in keys})
    if path.stem != f"run{record.run}" or shapes > 1 + bool(record.statistics):
        raise InputError(path, "is damaged or renamed", remedy)
    return record


def _check_numbers(record: RunRecord) -> None:
    """Raise ValueError unless all that is measured is a number that can be reckoned with."""
    values: list[object] = [*record.figures().values()]
    for score in (score for epochs in record.scores for score in epochs):
        values += [*score.accuracy.values(), *score.by_task]
        if None in score.accuracy.values():
            raise ValueError("an accuracy is missing")
    values += [value for row in record.statistics for value in row.values()]
    for value in values:
        # NaN, which no comparison holds for, is the accuracy on no images.
        known = isinstance(value, (int, float)) and not abs(value) > _LARGEST
        if value is not None and not known:
            raise ValueError(f"{value!r} where a number belongs")


def _accuracy_keys(table: dict[str, float]) -> dict[tuple[int, str, str], float]:
    keys = {f"{test}_{path}": (test, path) for test in TESTS for path in PATHS}
    found = {}
    for name, value in table.items():
        k, _, rest = name.removeprefix("top").partition("_")
        found[int(k), *keys[rest]] = value
    return found


def _plain(value: Any) -> Any:
    """What TOML can hold: paths as text, no None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level of names: ``section.name``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
