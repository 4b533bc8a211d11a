"""A whole experiment in one call from Python."""

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
"""Settings of a stream that are grouped; their flags are not."""


@usual_torch()
def stream(
    dataset: str | Path, method: str = "slda", *, output: str | Path | None = None, **settings: Any
) -> Results:
    """Stream a data set through a method and test it after every epoch, as ``crumb stream`` does.

    Args:
        dataset: folder of an indexed data set.
        method: by name.
        output: results folder; what is finished in it is not done again.
        settings: of the stream (``runs``, ``protocol``, ``device``, ``classes_per_task``, ...), of
            the network (``backbone``, ``weights``, ...) and of the method, by the names of their
            flags.

    Returns:
        the results folder; ``finished()`` gives the records of its runs.

    Raises:
        InputError: a setting that does not exist or cannot be, or see
            :func:`crumb.stream.run.stream`.
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
            raise InputError(setting(name), "is no setting of a stream", f"choose from {known}")
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
        # Here to go on is no setting of its own.
        _, problem, remedy = error.parts
        raise type(error)(setting("output", folder), problem, remedy) from error


def _is_file(path: Path) -> bool:
    # A name that no file can have is refused where the folder is made.
    with contextlib.suppress(OSError):
        return path.is_file()
    return False
