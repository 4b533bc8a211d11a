"""The command that reproduces a result, from its settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

from crumb.errors import flag_of
from crumb.methods.registry import find_method
from crumb.nets.config import NetworkConfig
from crumb.reports.families import Result
from crumb.reports.runs import spans
from crumb.stream.config import StreamConfig

# The data set is given as an argument, and the results folder must be a new one.
_OTHERWISE = {"stream.dataset", "stream.output", "stream.resume", "stream.runs", "stream.first_run"}


def command_of(result: Result) -> str:
    """`crumb stream` with all flags that differ from the defaults, and a new results folder.

    If run numbers have gaps, a further call with `--resume` adds the runs after each gap. The file
    for ``--pretrained`` must be made first, as `crumb ablate` does. Settings that this version of
    Crumb does not know are left out.
    """
    configs = {
        "stream": StreamConfig,
        "network": NetworkConfig,
        "method": find_method(result.method).Config,
    }
    words = ["crumb", "stream", str(result.settings["stream.dataset"])]
    for section, config in configs.items():
        words += _flags(config, f"{section}.", result.settings)
    folder, calls = f"again/{result.name}", []
    for first, last in spans([record.run for record in result.records]):
        runs = ["--runs", str(last - first + 1), *(["--first-run", str(first)] if first else [])]
        begun = ["crumb", "stream", "--resume", folder, *runs]
        calls.append(begun if calls else [*words, *runs, "--output", folder])
    return " && ".join(map(shlex.join, calls))


def _flags(config: type, prefix: str, settings: Mapping[str, Any]) -> Iterator[str]:
    hints = get_type_hints(config)
    for own in fields(config):
        name, default = f"{prefix}{own.name}", _default(own)
        if name in _OTHERWISE:
            continue
        if is_dataclass(default):
            yield from _flags(type(default), f"{name}.", settings)
        # TOML has no None: a missing optional setting is None.
        elif name not in settings and NoneType not in get_args(hints[own.name]):
            continue
        elif (value := settings.get(name)) != _plain(default):
            yield from _words(flag_of(own.name), value)


def _default(own: Field[Any]) -> Any:
    return own.default if own.default_factory is MISSING else own.default_factory()


def _plain(value: Any) -> Any:
    """The value in its TOML form."""
    return [*value] if isinstance(value, tuple) else value


def _words(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    if isinstance(value, list):
        return [flag, *map(str, value)]
    return [flag, str(value)]
