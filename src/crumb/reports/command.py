"""The command that reproduces a result, from its settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from crumb.errors import flag_of
from crumb.methods.facts import defaults_of, facts
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
    defaults = {
        **dict(_defaults(StreamConfig, "stream.")),
        **dict(_defaults(NetworkConfig, "network.")),
        **{f"method.{name}": value for name, value in facts(result.method).defaults.items()},
    }
    words = ["crumb", "stream", str(result.settings["stream.dataset"])]
    words += _flags(defaults, result.settings)
    folder, calls = f"again/{result.name}", []
    for first, last in spans([record.run for record in result.records]):
        runs = ["--runs", str(last - first + 1), *(["--first-run", str(first)] if first else [])]
        begun = ["crumb", "stream", "--resume", folder, *runs]
        calls.append(begun if calls else [*words, *runs, "--output", folder])
    return " && ".join(map(shlex.join, calls))


def _flags(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    for name, default in defaults.items():
        # TOML has no None: a setting that is None by default may be left out.
        if name in _OTHERWISE or (name not in settings and default is not None):
            continue
        if (value := settings.get(name)) != default:
            yield from _words(flag_of(name.rpartition(".")[2]), value)


def _defaults(config: type, prefix: str) -> Iterator[tuple[str, Any]]:
    """The defaults of a configuration and of those inside it, by dotted name."""
    for name, value in defaults_of(config).items():
        if is_dataclass(value):
            yield from _defaults(type(value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _words(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    if isinstance(value, list):
        return [flag, *map(str, value)]
    return [flag, str(value)]
