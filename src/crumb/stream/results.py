"""The results folder: accuracies as the published CSV files, and what lies next to them."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crumb import __version__
from crumb.errors import InputError, setting
from crumb.files import (
    WRITE_REMEDY,
    read_text,
    read_toml,
    remove_parts,
    try_lock,
    write_csv,
    write_json,
    write_toml,
)
from crumb.nets.config import NO_FILE
from crumb.stream.metrics import mean_and_deviation
from crumb.stream.record import (
    FIGURES,
    FORMAT,
    VERSION,
    RunRecord,
    read_record,
    record_to_json,
)

CONFIG = "config.toml"
"""Name of the file of all settings."""
# Settings that may differ between the calls that together make up one results folder.
_FREE = {
    "crumb",
    # Its index is compared.
    "dataset",
    "output",
    "resume",
    "runs",
    "first_run",
    "workers",
    "feature_cache",
    "feature_cache_bytes",
    "feature_cache_folder",
    "test_batch_size",
    "checkpoint_minutes",
    "checkpoint_batches",
    "save_model",
    "tensorboard",
    "save_tasks",
}
PRETRAINED_RUN, FILELISTS_RUN = "pretrained_run", "filelists_run"
"""Name the digests of pretrained files, where each run has its own, and of the lists of a run."""
_OF_A_RUN = tuple(f"files.{name}" for name in (PRETRAINED_RUN, FILELISTS_RUN))

# Settings that older folders do not know, and what they did.
_ADDED = {
    "stream.evaluation.mem_accuracy": True,
    "stream.machine.precision": "full",
    "stream.machine.deterministic": True,
    "stream.machine.compile": False,
    "stream.on_error": "stop",
    "stream.mode": "paper",
    "stream.pretrained_parts": "both",
    "network.trainable": "tail",
    "method.frozen_blocks": False,
    "command": "stream",
}


class BusyError(InputError):
    """A results folder that another process is writing."""


class OtherSettingsError(InputError):
    """A results folder that was made with other settings."""


class Results:
    """A results folder.

    As a context it is opened for writing: the settings are written on entry, and removed again if
    it is left by an error before there is a finished run or a checkpoint.

    Args:
        folder: made on entry if missing.
        settings: the resolved configuration, by section.
        resume: whether finished runs in it are to be kept.
        skipped: what is wrong with each image that is left out, if any is to be.

    Raises:
        InputError: it holds results already (or, with ``resume``, those of other settings or
            images); on entry, it cannot be written.
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
        self._config = {
            "format": FORMAT,
            "version": VERSION,
            "crumb": __version__,
            **_plain(settings),
        }
        self._files = (folder / CONFIG, folder / "hyperparams.csv", folder / "skipped.csv")
        self._written: list[Path] = []
        # Digests of what runs of earlier calls began with.
        self._earlier: dict[str, str] = {}
        self._unknown_lists = False
        self._is_new = not (self._files[0].exists() or self.begun)
        if self._is_new:
            self._check_free()
        else:
            self._check_same(self._files[0], resume)

    def __enter__(self) -> None:
        self._claim()
        if self._unknown_lists:
            sys.stderr.write(
                f"{self.folder}: an earlier Crumb kept no digest of --filelists: whether the lists "
                "are still the same cannot be told; from now on it can\n"
            )
        config, flat, skipped = self._files
        try:
            for part in ("", "runs", "all_epochs", self.checkpoints.name):
                remove_parts(self.folder / part)
            settings = {**self._config}
            if self._earlier:
                settings["files"] = self._earlier | settings["files"]
            self._written.append(config)
            write_toml(config, settings)
            self._written.append(flat)
            write_csv(flat, [*_flat(settings).items()])
            if self.skipped is not None:
                self._written.append(skipped)
                write_csv(skipped, sorted(self.skipped.items()), header=["im_path", "problem"])
        except BaseException as error:
            self.__exit__(type(error))
            raise

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self._withdraw()
        os.close(self._lock)

    def _claim(self) -> None:
        """Keep other processes out of the folder; the system does it no longer when we are gone."""
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
                self.folder, problem, f"wait for it, or give another {setting('output')}"
            )

    def _withdraw(self) -> None:
        """Leave no trace of what has not begun."""
        if self._is_new and not self.begun:
            # There may be no such folder, or files of the user's in it.
            with contextlib.suppress(OSError):
                # The settings last: without them the others would be in the way of the next call.
                for path in reversed(self._written):
                    path.unlink(missing_ok=True)
                if self.checkpoints.is_dir():
                    self.checkpoints.rmdir()
                self.folder.rmdir()

    def _check_free(self) -> None:
        for path in self._files[1:]:
            if path.exists():
                problem = "is not of a results folder, and would be overwritten"
                raise InputError(path, problem, f"move it, or choose another {setting('output')}")

    def _check_same(self, path: Path, resume: bool) -> None:
        command = self._config.get("command", "stream")
        if not resume:
            raise InputError(
                self.folder,
                "holds results already",
                f"choose another {setting('output')}, or go on with crumb {command} --resume "
                f"{self.folder}",
            )
        before = read_toml(path, "remove the folder")
        old = _ADDED | _flat(before)
        new = _ADDED | _flat(self._config)
        for name in sorted(old.keys() | new.keys(), key=lambda name: ("files." in name, name)):
            unknown = name.startswith("files.") and name not in old
            # Of runs that are not asked for now.
            unknown |= name.startswith(_OF_A_RUN) and name not in new
            unknown |= _is_moved(name, old, new)
            if old.get(name) == new.get(name) or unknown or not has_effect(name, command):
                continue
            problem = f"was made with {name} = {old.get(name)}, not {new.get(name)}"
            if name.startswith(_OF_A_RUN[1]):
                run = name.removeprefix(_OF_A_RUN[1])
                lists = f"the lists of run {run} ({setting('filelists')})"
                problem = f"was made with other contents of {lists}"
            elif name.startswith("files."):
                problem = f"was made with other contents of the file of the {name[6:]}"
            remedy = f"use the same settings or another {setting('output')}"
            raise OtherSettingsError(setting("resume", self.folder), problem, remedy)
        self._check_skipped(self._files[2])
        self._earlier = {
            name: value
            for name, value in before.get("files", {}).items()
            if f"files.{name}".startswith(_OF_A_RUN)
        }
        listed = old.get("stream.filelists") is not None
        self._unknown_lists = listed and not any(n.startswith(_OF_A_RUN[1]) for n in old)

    def _check_skipped(self, path: Path) -> None:
        if self.skipped is None or not path.exists():
            return
        _, *rows = csv.reader(read_text(path, "remove it").splitlines())
        if changed := {row[0] for row in rows if row} ^ self.skipped.keys():
            raise InputError(
                setting("resume", self.folder),
                f"has {path.name} without or with {min(changed)}, unlike now",
                f"bring the images back to what they were, or give another {setting('output')}",
            )

    @property
    def digest(self) -> str:
        """SHA-256 of all settings that have to be the same in every call, in hexadecimal."""
        settings = {
            name: value
            for name, value in (_ADDED | _flat(self._config)).items()
            if has_effect(name)
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    @property
    def begun(self) -> bool:
        """Whether there is a finished run or a checkpoint."""
        return self.begun_in(self.folder)

    @staticmethod
    def begun_in(folder: Path) -> bool:
        """The same of any folder."""
        try:
            return any([*folder.glob("runs/run*.json"), *folder.glob("checkpoints/run*")])
        except OSError:
            # What is wrong with it is told when it is written.
            return False

    def begun_runs(self) -> bool:
        """Whether there are checkpoints of runs."""
        return any(self.checkpoints.glob("run*"))

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of runs that are not finished."""
        return self.folder / "checkpoints"

    def finished(self) -> list[RunRecord]:
        """The runs in the folder, by number.

        Raises:
            InputError: a run is damaged.
        """
        return self.finished_in(self.folder)

    @staticmethod
    def finished_in(folder: Path) -> list[RunRecord]:
        """The same of any folder."""
        return sorted(
            map(read_record, folder.glob("runs/run*.json")), key=lambda record: record.run
        )

    def add(self, record: RunRecord) -> None:
        """Write one finished run and the tables over all runs; a run of its number is replaced."""
        name = f"run{record.run}"
        others = [other for other in self.finished() if other.run != record.run]
        for (k, test, path), table in _epochs(record).items():
            file = f"top{k}_test_{test}_{path}_all_epochs_{name}.csv"
            write_csv(self.folder / "all_epochs" / file, table)
        matrix = [[*row, *[None] * (len(record.scores) - len(row))] for row in record.matrix()]
        write_csv(self.folder / f"accuracy_matrix_{name}.csv", matrix)
        _write_classes(record, self.folder)
        self._write_tables(sorted([*others, record], key=lambda record: record.run))
        # Last, as it is what makes the run a finished one.
        write_json(
            self.folder / "runs" / f"{name}.json",
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


def _is_moved(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a setting names a file of which the contents are compared, not the place."""
    values = old.get(name), new.get(name)
    if None in values:
        return False
    if name == "network.weights":
        # Without a digest of the earlier one, of a relative path perhaps, only the name is known.
        return "files.weights" in old and not {*values} & {*NO_FILE}
    listed = name == "stream.filelists" and any(one.startswith(_OF_A_RUN[1]) for one in old)
    return listed or name == "stream.pretrained"


def read_settings(folder: Path) -> dict[str, Any]:
    """Every setting of a results folder by its name, such as ``stream.machine.precision``.

    Those that the Crumb which wrote it did not know have the values that stand for what it did.

    Raises:
        InputError: its settings are missing, damaged, or of another format version.
    """
    path = folder / CONFIG
    remedy = "bring it back, or remove the folder"
    config = read_toml(path, remedy)
    if (config.get("format"), config.get("version")) != (FORMAT, VERSION):
        raise InputError(path, f"is not of results of format version {VERSION}", remedy)
    return _ADDED | _flat(config)


def has_effect(name: str, command: object = "stream") -> bool:
    """Whether results of a command may depend on a setting, named as in :func:`read_settings`."""
    # Pretraining has one run, and one file whatever its number.
    free = _FREE - {"first_run"} if command == "pretrain" else _FREE
    return not free & set(name.split("."))


def _write_classes(record: RunRecord, folder: Path) -> None:
    """Accuracy by class after each task, counted from 1, and the confusions at the end."""
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
    """Figures of each run, and their mean and sample standard deviation over the runs."""
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


def _plain(value: Any) -> Any:
    """What TOML can hold: paths as text, no None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    # So that they mean the same wherever the next call is made.
    return str(value.absolute()) if isinstance(value, Path) else value


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level of names: ``section.name``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
