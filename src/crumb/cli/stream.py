"""``crumb stream``: one method over one data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tyro

from crumb.cli.parsing import combine, option, override, parse, read_preset, without
from crumb.cli.tables import summary_table
from crumb.errors import InputError
from crumb.methods.registry import find_method
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig
from crumb.stream.run import stream


def run(words: Sequence[str]) -> None:
    """Parse, stream, print the key figures."""
    config, network, method = settings(words)
    results = stream(config, network, method)
    print(summary_table({config.method: results.finished()}))
    print(f"results: {results.folder}")


def settings(words: Sequence[str]) -> tuple[StreamConfig, NetworkConfig, Any]:
    """The three configurations of a run: flags over preset over defaults."""
    preset = read_preset(name) if (name := option(words, "--preset", "")) else {}
    words = without(words, "--preset")
    sections = {"stream", "network", "method"}
    if unknown := sorted(preset.keys() - sections - {"about"}):
        raise InputError(f"--preset {name}", f"has a section {unknown[0]!r}", f"use {sections}")
    named = preset.get("stream", {}).get("method", "crumb")
    kind = find_method(option(words, "--method", named))
    defaults = {
        "stream": StreamConfig(dataset=tyro.MISSING),
        "network": NetworkConfig(),
        "method": kind.Config(),
    }
    filled = {
        part: override(value, preset.get(part, {}), f"--preset {name}, {part}")
        for part, value in defaults.items()
    }
    doc = (
        "Stream a data set through a method and test it after every epoch. "
        "--preset NAME takes the settings of a paper's experiment, e.g. core50/crumb; "
        "--method M shows the flags of that method."
    )
    command = combine("Stream", doc, stream=StreamConfig, network=NetworkConfig, method=kind.Config)
    parsed: Any = parse(command, words, "crumb stream", command(**filled))
    return parsed.stream, parsed.network, parsed.method
