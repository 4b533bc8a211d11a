"""The settings of a results folder: as they are written beside the results, read and compared."""

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
from crumb.nets.config import NO_FILE
from crumb.stream.record import FORMAT, VERSION

CONFIG, SKIPPED = "config.toml", "skipped.csv"
"""Names of the file of all settings, and of that of the images that were left out."""
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
OF_A_RUN = tuple(f"files.{name}" for name in (PRETRAINED_RUN, FILELISTS_RUN))

ENGINE = "network.engine"
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
    ENGINE: "torch",
    "method.frozen_blocks": False,
    "command": "stream",
}


class OtherSettingsError(InputError):
    """A results folder that was made with other settings."""


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a configuration as they are written."""
    return {"format": FORMAT, "version": VERSION, "crumb": __version__, **_plain(settings)}


def digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of all settings that have to be the same in every call, in hexadecimal.

    Args:
        settings: as :func:`recorded`.
    """
    found = {name: value for name, value in (_ADDED | flat(settings)).items() if has_effect(name)}
    if found[ENGINE] in ("torch", "auto"):
        # Earlier versions, which had no other engine, did not name it.
        del found[ENGINE]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


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
    return _ADDED | flat(config)


def has_effect(name: str, command: object = "stream") -> bool:
    """Whether results of a command may depend on a setting, named as in :func:`read_settings`."""
    # Pretraining has one run, and one file whatever its number.
    free = _FREE - {"first_run"} if command == "pretrain" else _FREE
    return not free & set(name.split("."))


def difference(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    command: object = "stream",
    free: Container[str] = (),
) -> str | None:
    """Name of the first setting that has an effect and differs; files come last.

    Args:
        old: settings by name, of what is there.
        new: settings by name, of what is wanted.
        command: that made the results.
        free: names of settings that may differ.
    """
    for name in sorted(old.keys() | new.keys(), key=lambda name: ("files." in name, name)):
        unknown = name.startswith("files.") and name not in old
        # Of runs that are not asked for now.
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
    """Refuse a results folder that was made with other settings, or without other images.

    Args:
        folder: of results.
        settings: that are wanted, by section.
        skipped: what is wrong with each image that is left out, if any is to be.
        left_open: settings of network and method that are None are not compared: nothing has been
            built that would say what they come to.

    Returns:
        the sections that are recorded there.

    Raises:
        OtherSettingsError: naming the first setting that differs.
        InputError: the settings are damaged; other images were left out.
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
            f"has {path.name} without or with {min(changed)}, unlike now",
            f"bring the images back to what they were, or give another {setting('output')}",
        )


def _is_moved(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a setting names a file of which the contents are compared, not the place."""
    values = old.get(name), new.get(name)
    if None in values:
        return False
    if name == "network.weights":
        # Without a digest of the earlier one, of a relative path perhaps, only the name is known.
        return "files.weights" in old and not {*values} & {*NO_FILE}
    listed = name == "stream.filelists" and any(one.startswith(OF_A_RUN[1]) for one in old)
    return listed or name == "stream.pretrained"


def _plain(value: Any) -> Any:
    """What TOML can hold: paths as text, no None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    # So that they mean the same wherever the next call is made.
    return str(value.absolute()) if isinstance(value, Path) else value


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level of names: ``section.name``."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
