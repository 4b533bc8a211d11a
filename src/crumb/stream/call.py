"""Run a whole experiment with one Python call."""

from __future__ import annotations

import contextlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from crumb.data.protocol import TaskLayout
from crumb.device import usual_torch
from crumb.errors import InputError, setting
from crumb.kinds import given
from crumb.methods.registry import find_method
from crumb.nets.config import NetworkConfig
from crumb.stream.config import EvaluationConfig, MachineConfig, StreamConfig
from crumb.stream.results import Results
from crumb.stream.run import stream as stream_with
from crumb.stream.settings import CONFIG

_SECTIONS: dict[str, Any] = {
    "layout": TaskLayout,
    "evaluation": EvaluationConfig,
    "machine": MachineConfig,
}
"""Nested groups of stream settings; their flags are flat."""


@usual_torch()
def stream(
    dataset: str | Path, method: str = "slda", *, output: str | Path | None = None, **settings: Any
) -> Results:
    """Train a method on a stream and test it after every epoch, as ``crumb stream`` does.

    Args:
        dataset: folder of an indexed data set.
        method: name of the method.
        output: results folder. Runs that are finished in it are not repeated.
        settings: settings of the stream (``runs``, ``protocol``, ``device``, ``classes_per_task``,
            ...), the network (``backbone``, ``weights``, ...) and the method, by the names of their
            flags.

    Returns:
        the results folder; ``finished()`` gives the records of its runs.

    Raises:
        InputError: a setting is unknown or invalid, or see :func:`crumb.stream.run.stream`.
    """
    kind = find_method(method)
    parts: list[dict[str, Any]] = [{}, {}, {}]
    kinds = (StreamConfig, NetworkConfig, kind.Config)
    names = [{one.name for one in fields(part)} - {"resume"} for part in kinds]
    sections: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    of_section = {one.name: name for name, part in _SECTIONS.items() for one in fields(part)}
    for name, value in settings.items():
        if name in of_section:
            sections[of_section[name]][name] = value
            continue
        part = next((part for part, known in zip(parts, names, strict=True) if name in known), None)
        if part is None:
            known = ", ".join(sorted(set.union(*names, of_section)))
            raise InputError(setting(name), "is not a setting of a stream", f"choose from {known}")
        part[name] = value
    for name, values in sections.items():
        if values:
            section: Any = given(name, parts[0].get(name, _SECTIONS[name]()), _SECTIONS[name])
            parts[0][name] = replace(section, **values)
    folder: Path | None = given("output", output, Path | None)
    begun = folder is not None and (Results.begun_in(folder) or _is_file(folder / CONFIG))
    config = StreamConfig(
        dataset=given("dataset", dataset, Path),
        method=method,
        output=folder,
        resume=begun,
        **parts[0],
    )
    try:
        return stream_with(config, NetworkConfig(**parts[1]), kind.Config(**parts[2]))
    except InputError as error:
        if error.setting != "resume":
            raise
        # This call always resumes, so ``resume`` is not a setting here.
        _, problem, remedy = error.parts
        raise type(error)(setting("output", folder), problem, remedy) from error


def _is_file(path: Path) -> bool:
    # A name that is invalid for a file is refused when the folder is made.
    with contextlib.suppress(OSError):
        return path.is_file()
    return False
