"""Compare two results folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from crumb.files import read_json, read_tensors

# It contains the name of the folder.
_NOT_COMPARED = "hyperparams.csv"
# Values that differ between any two runs.
_MEASURED = (
    "seconds",
    "test_seconds",
    "feature_seconds",
    "checkpoint_seconds",
    "peak_memory_bytes",
    "finished",
)


def differences(whole: Path, other: Path) -> list[str]:
    """Differences between an interrupted run and an undisturbed one.

    It compares the names of all files, every table byte by byte, every tensor and its metadata, and
    the record of each run except times and memory.

    Args:
        whole: results folder of the undisturbed runs.
        other: results folder of the interrupted runs.

    Returns:
        one line for each file that differs.
    """
    expected, found = _names(whole), _names(other)
    lines = [f"{name}: is missing" for name in sorted(expected - found)]
    lines += [f"{name}: is left over" for name in sorted(found - expected)]
    for name in sorted(expected & found):
        if (problem := _difference(whole / name, other / name)) is not None:
            lines.append(f"{name}: {problem}")
    return lines


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _difference(one: Path, other: Path) -> str | None:
    if one.suffix == ".csv" and one.name != _NOT_COMPARED:
        return None if one.read_bytes() == other.read_bytes() else "has other bytes"
    if one.suffix == ".safetensors":
        return _tensor_difference(one, other)
    if one.parent.name == "runs":
        return None if _record(one) == _record(other) else "has another record"
    return None


def _tensor_difference(one: Path, other: Path) -> str | None:
    (tensors, about), (others, other_about) = read_tensors(one, ""), read_tensors(other, "")
    if tensors.keys() != others.keys():
        return f"has other tensors: {sorted(tensors.keys() ^ others.keys())}"
    for name, value in tensors.items():
        if value.dtype != others[name].dtype or not torch.equal(value, others[name]):
            return f"{name} differs"
    return None if about == other_about else "has other metadata of its tensors"


def _record(path: Path) -> dict[str, Any]:
    return {name: v for name, v in read_json(path, "").items() if name not in _MEASURED}
