"""A whole experiment in one call from Python."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from crumb.device import usual_torch
from crumb.errors import InputError, setting
from crumb.kinds import given
from crumb.methods.registry import find_method
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig
from crumb.stream.results import Results
from crumb.stream.run import stream as stream_with


@usual_torch()
def stream(
    dataset: str | Path, method: str = "slda", *, output: str | Path | None = None, **settings: Any
) -> Results:
    """Stream a data set through a method and test it after every epoch, as ``crumb stream`` does.

    Args:
        dataset: folder of an indexed data set.
        method: by name.
        output: results folder; what is finished in it is not done again.
        settings: of the stream (``runs``, ``protocol``, ``mode``, ...), of the network
            (``backbone``, ``weights``, ...) and of the method, by the names of their flags.

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
    for name, value in settings.items():
        part = next((part for part, known in zip(parts, names, strict=True) if name in known), None)
        if part is None:
            known = ", ".join(sorted(set.union(*names)))
            raise InputError(setting(name), "is no setting of a stream", f"choose from {known}")
        part[name] = value
    folder: Path | None = given("output", output, Path | None)
    begun = folder is not None and Results.begun_in(folder)
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
        # Here it is the output that says so.
        raise type(error)(setting("output", output), *error.parts[1:]) from error
