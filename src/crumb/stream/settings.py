"""Write, read and compare the settings of a results folder."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from crumb import __version__
from crumb.errors import InputError, setting
from crumb.files import read_text, read_toml
from crumb.nets.config import is_file
from crumb.stream.record import FORMAT, VERSION

CONFIG, SKIPPED = "config.toml", "skipped.csv"
"""Names of the settings file and of the list of skipped images."""
# Settings that may differ between calls that write to the same results folder.
_FREE = {
    "crumb",
    # The index is compared instead.
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
"""Keys of the digests of each run's pretrained file and task lists."""
OF_A_RUN = tuple(f"files.{name}" for name in (PRETRAINED_RUN, FILELISTS_RUN))

ENGINE = "network.engine"
# Settings that older folders lack, and the values that match their behaviour.
_ADDED = {
    "stream.evaluation.mem_accuracy": True,
    "stream.machine.precision": "full",
    "stream.machine.deterministic": True,
    "stream.machine.compile": False,
    "stream.on_error": "stop",
    "stream.mode": "paper",
    "stream.pretrained_parts": "both",
    "network.trainable": "tail",
    ENGINE: "torch",
    "method.frozen_blocks": False,
    "command": "stream",
}


class OtherSettingsError(InputError):
    """Raised if a results folder was made with other settings."""


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a configuration in the form in which they are written."""
    return {"format": FORMAT, "version": VERSION, "crumb": __version__, **_plain(settings)}


def digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of all settings that must be the same in every call.

    Args:
        settings: the result of :func:`recorded`.
    """
    found = {name: value for name, value in (_ADDED | flat(settings)).items() if has_effect(name)}
    if found[ENGINE] in ("torch", "auto"):
        # Earlier versions, which had no other engine, did not name it.
        del found[ENGINE]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def read_settings(folder: Path) -> dict[str, Any]:
    """All settings of a results folder by name, such as ``stream.machine.precision``.

    Settings that did not exist when the folder was written get values that match the old behaviour.

    Raises:
        InputError: the settings are missing, damaged or of another format version.
    """
    path = folder / CONFIG
    remedy = "restore it or remove the folder"
    config = read_toml(path, remedy)
    if (config.get("format"), config.get("version")) != (FORMAT, VERSION):
        raise InputError(path, f"is not a settings file of format version {VERSION}", remedy)
    return _ADDED | flat(config)


def has_effect(name: str, command: object = "stream") -> bool:
    """Whether a setting (named as in :func:`read_settings`) may affect the results of a command."""
    # Pretraining has a single run and a single file, whatever the run number.
    free = _FREE - {"first_run"} if command == "pretrain" else _FREE
    return not free & set(name.split("."))


def difference(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    command: object = "stream",
    free: Container[str] = (),
) -> str | None:
    """Name of the first setting that differs and affects results. Files come last.

    Args:
        old: existing settings, by name.
        new: requested settings, by name.
        command: command that made the results.
        free: names of settings that may differ.
    """
    for name in sorted(old.keys() | new.keys(), key=lambda name: ("files." in name, name)):
        unknown = name.startswith("files.") and name not in old
        # Digests of runs that are not requested now.
        unknown |= name.startswith(OF_A_RUN) and name not in new
        # What auto comes to is found out when the network is built.
        unknown |= name == ENGINE and "auto" in (old.get(name), new.get(name))
        if unknown or name in free or old.get(name) == new.get(name):
            continue
        if has_effect(name, command) and not _is_moved(name, old, new):
            return name
    return None


def check_same(
    folder: Path,
    settings: Mapping[str, Any],
    skipped: Mapping[str, str] | None = None,
    left_open: bool = False,
) -> dict[str, Any]:
    """Refuse a results folder made with other settings or other skipped images.

    Args:
        folder: results folder.
        settings: requested settings, by section.
        skipped: problem of each skipped image, if images may be skipped.
        left_open: do not compare settings of network and method that are None, because their values
            are known only once the network is built.

    Returns:
        the sections stored in the folder.

    Raises:
        OtherSettingsError: settings differ; names the first one.
        InputError: the settings are damaged, or other images were skipped.
    """
    before = read_toml(folder / CONFIG, "remove the folder")
    command = settings.get("command", "stream")
    old, new = _ADDED | flat(before), _ADDED | flat(recorded(settings))
    free = {
        name
        for name, value in flat(settings).items()
        if left_open and value is None and name.startswith(("method.", "network."))
    }
    if (name := difference(old, new, command, free)) is not None:
        problem = f"was made with {name} = {old.get(name)}, not {new.get(name)}"
        if name.startswith(OF_A_RUN[1]):
            run = name.removeprefix(OF_A_RUN[1])
            lists = f"the lists of run {run} ({setting('filelists')})"
            problem = f"was made with other contents of {lists}"
        elif name.startswith("files."):
            problem = f"was made with other contents of the file of the {name[6:]}"
        remedy = f"use the same settings or another {setting('output')}"
        raise OtherSettingsError(setting("resume", folder), problem, remedy)
    _check_skipped(folder, skipped)
    return before


def _check_skipped(folder: Path, skipped: Mapping[str, str] | None) -> None:
    path = folder / SKIPPED
    if skipped is None or not path.exists():
        return
    _, *rows = csv.reader(read_text(path, "remove it").splitlines())
    if changed := {row[0] for row in rows if row} ^ skipped.keys():
        raise InputError(
            setting("resume", folder),
            f"{path.name} differs from now in {min(changed)}",
            f"restore the images, or choose another {setting('output')}",
        )


def _is_moved(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a setting names a file that is compared by content, not by path."""
    values = old.get(name), new.get(name)
    if None in values:
        return False
    if name == "network.weights":
        # Without a digest of the earlier file, only its name can be compared.
        return "files.weights" in old and all(map(is_file, map(str, values)))
    listed = name == "stream.filelists" and any(one.startswith(OF_A_RUN[1]) for one in old)
    return listed or name == "stream.pretrained"


def _plain(value: Any) -> Any:
    """Values that TOML supports: paths as text, None left out."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    # Absolute, so that they mean the same from any working directory.
    return str(value.absolute()) if isinstance(value, Path) else value


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten to names of the form ``section.name``."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
