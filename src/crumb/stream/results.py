"""The results folder: accuracies in the published CSV format, settings, metrics and runs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crumb.errors import InputError, setting
from crumb.files import (
    WRITE_REMEDY,
    read_toml,
    remove_parts,
    write_csv,
    write_json,
    write_toml,
)
from crumb.locks import try_lock
from crumb.stream.metrics import mean_and_deviation
from crumb.stream.record import (
    FIGURES,
    FORMAT,
    VERSION,
    RunRecord,
    read_record,
    record_to_json,
)
from crumb.stream.settings import (
    CONFIG,
    FILELISTS_RUN,
    OF_A_RUN,
    SKIPPED,
    check_same,
    flat,
    recorded,
)

TIMING = "timing.json"
"""File with the measured seconds of a batch, for streams with a rate."""


class BusyError(InputError):
    """Raised if another process is writing to the results folder."""


class Results:
    """A results folder.

    Use it as a context manager for writing: settings are written on entry, and removed again if an
    error occurs before the first finished run or checkpoint.

    Args:
        folder: path of the folder, made on entry if missing.
        settings: resolved configuration, by section.
        resume: whether to keep finished runs in it.
        skipped: problem of each skipped image, if images may be skipped.

    Raises:
        InputError: the folder already holds results (with ``resume``: results with other settings
            or images), or on entry, it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        resume: bool = False,
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.skipped = skipped
        self._settings = settings
        self._files = tuple(folder / name for name in (CONFIG, "hyperparams.csv", SKIPPED, TIMING))
        self._written: list[Path] = []
        # Digests of the files that runs of earlier calls started from.
        self._earlier: dict[str, str] = {}
        self._unknown_lists = False
        self._is_new = not (self._files[0].exists() or self.begun)
        if self._is_new:
            self._check_free()
        else:
            self._check_same(resume)

    def __enter__(self) -> None:
        self._claim()
        if self._unknown_lists:
            sys.stderr.write(
                f"{self.folder}: an earlier version of Crumb stored no digest of --filelists, so "
                "changes to the lists until now cannot be detected\n"
            )
        config, table, skipped, timing = self._files
        try:
            for part in ("", "runs", "all_epochs", self.checkpoints.name):
                remove_parts(self.folder / part)
            settings = recorded(self._settings)
            if self._earlier:
                settings["files"] = self._earlier | settings["files"]
            self._written += [config, timing]
            write_toml(config, settings)
            self._written.append(table)
            write_csv(table, [*flat(settings).items()])
            if self.skipped is not None:
                self._written.append(skipped)
                write_csv(skipped, sorted(self.skipped.items()), header=["im_path", "problem"])
        except BaseException as error:
            self.__exit__(type(error))
            raise

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self.withdraw()
        os.close(self._lock)

    def _claim(self) -> None:
        """Lock the folder against other processes; the system releases the lock when this one
        ends.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            problem = f"cannot be written ({error.strerror})"
            raise InputError(self.folder, problem, WRITE_REMEDY) from error
        if not try_lock(self._lock):
            os.close(self._lock)
            problem = "is being written by another process"
            raise BusyError(
                self.folder, problem, f"wait for it, or choose another {setting('output')}"
            )

    def withdraw(self) -> None:
        """Remove the files of a folder in which no run has started. Only while it is open for
        writing.
        """
        if self._is_new and not self.begun:
            # The folder may be missing or hold files of the user.
            with contextlib.suppress(OSError):
                # Remove the settings last: without them the next call would refuse the other files.
                for path in reversed(self._written):
                    path.unlink(missing_ok=True)
                if self.checkpoints.is_dir():
                    self.checkpoints.rmdir()
                self.folder.rmdir()

    def _check_free(self) -> None:
        for path in self._files[1:]:
            if path.exists():
                problem = "is not a file of a results folder and would be overwritten"
                raise InputError(path, problem, f"move it or choose another {setting('output')}")

    def _check_same(self, resume: bool) -> None:
        if not resume:
            command = self._settings.get("command", "stream")
            self._check_dataset()
            raise InputError(
                self.folder,
                "already holds results",
                f"choose another {setting('output')}, or resume with crumb {command} --resume "
                f"{self.folder}",
            )
        before = check_same(self.folder, self._settings, self.skipped)
        self._earlier = {
            name: value
            for name, value in before.get("files", {}).items()
            if f"files.{name}".startswith(OF_A_RUN)
        }
        listed = flat(before).get("stream.filelists") is not None
        self._unknown_lists = listed and not any(n.startswith(FILELISTS_RUN) for n in self._earlier)

    def _check_dataset(self) -> None:
        """Refuse results of another data set, with which no call can go on."""
        if not self._files[0].exists():
            return
        before = flat(read_toml(self._files[0], "remove the folder"))
        known, now = before.get("files.index"), flat(self._settings).get("files.index")
        if known is not None and known != now:
            problem = f"holds results of another data set ({before.get('stream.dataset')})"
            raise InputError(self.folder, problem, f"choose another {setting('output')}")

    @property
    def begun(self) -> bool:
        """Whether the folder holds a finished run or a checkpoint."""
        return self.begun_in(self.folder)

    @staticmethod
    def begun_in(folder: Path) -> bool:
        """The same for any folder."""
        try:
            return any([*folder.glob("runs/run*.json"), *folder.glob("checkpoints/run*")])
        except OSError:
            # Errors are reported when the folder is written.
            return False

    @staticmethod
    def begun_runs_in(folder: Path) -> bool:
        """Whether the folder holds checkpoints."""
        return any(folder.glob("checkpoints/run*"))

    @staticmethod
    def busy_in(folder: Path) -> bool:
        """Whether another process is writing results to a folder."""
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not try_lock(descriptor)
        finally:
            os.close(descriptor)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of unfinished runs."""
        return self.folder / "checkpoints"

    def finished(self) -> list[RunRecord]:
        """The finished runs in the folder, by number.

        Raises:
            InputError: a run is damaged.
        """
        return self.finished_in(self.folder)

    @staticmethod
    def finished_in(folder: Path) -> list[RunRecord]:
        """The same for any folder."""
        return sorted(
            map(read_record, folder.glob("runs/run*.json")), key=lambda record: record.run
        )

    def add(self, record: RunRecord) -> None:
        """Write one finished run and the tables over all runs. Replaces a run with the same
        number.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        record = replace(record, finished=now)
        name = f"run{record.run}"
        others = [other for other in self.finished() if other.run != record.run]
        for (k, test, path), table in _epochs(record).items():
            file = f"top{k}_test_{test}_{path}_all_epochs_{name}.csv"
            write_csv(self.folder / "all_epochs" / file, table)
        matrix = [[*row, *[None] * (len(record.scores) - len(row))] for row in record.matrix()]
        write_csv(self.folder / f"accuracy_matrix_{name}.csv", matrix)
        _write_classes(record, self.folder)
        self._write_tables(sorted([*others, record], key=lambda record: record.run))
        # Written last: this file marks the run as finished.
        write_json(
            run_file(self.folder, record.run),
            {"format": FORMAT, "version": VERSION, **record_to_json(record)},
        )

    def _write_tables(self, records: Sequence[RunRecord]) -> None:
        for key in records[0].scores[0][0].accuracy:
            k, test, path = key
            rows = [record.curve(*key) for record in records]
            write_csv(self.folder / f"top{k}_test_{test}_{path}_all_runs.csv", rows)
        statistics = [row for record in records for row in record.statistics]
        if statistics:
            rows = [[number, *row.values()] for number, row in enumerate(statistics)]
            write_csv(self.folder / "mem_stats.csv", rows, header=["", *statistics[0]])
        skipped = {} if self.skipped is None else {"skipped_images": len(self.skipped)}
        write_json(self.folder / "metrics.json", summarise(records) | skipped)


def run_file(folder: Path, run: int) -> Path:
    """Path of a finished run in a results folder."""
    return folder / "runs" / f"run{run}.json"


def _write_classes(record: RunRecord, folder: Path) -> None:
    """Accuracy by class after each task (from 1), and the final confusion matrix."""
    accuracy, confusion = record.class_accuracy(), record.confusion_matrix()
    if accuracy is not None:
        header = ["class", "first_task"]
        header += [f"after_task_{task + 1}" for task in range(len(record.scores))]
        rows = [
            [name, 1 + sum(value is None for value in row), *row]
            for name, row in zip(record.classes, accuracy, strict=True)
        ]
        write_csv(folder / f"class_accuracy_run{record.run}.csv", rows, header)
    if confusion is not None:
        path = folder / f"confusion_run{record.run}.csv"
        write_csv(path, confusion.tolist(), record.classes)


def summarise(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Metrics of each run, and their mean and sample standard deviation over runs."""
    runs = [{"run": record.run, **record.figures()} for record in records]
    summary = {}
    for name in FIGURES:
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
