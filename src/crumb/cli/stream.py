"""``crumb stream``: run one method over one data set."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crumb.cli.parsing import PRESET, RESUME, Preset, option, parse_parts
from crumb.cli.resume import take_settings
from crumb.cli.tables import summary_table
from crumb.errors import InputError
from crumb.experiments.tuned import BUDGET, FORMAT, refuse_other_search
from crumb.kinds import UNSET
from crumb.methods.base import Learner
from crumb.methods.registry import find_method
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig
from crumb.stream.run import stream


def run(words: Sequence[str]) -> None:
    """Run the stream and print the key figures."""
    config, network, method = settings(words)
    results = stream(config, network, method)
    print(summary_table({config.method: results.finished()}))
    if results.skipped:
        count = len(results.skipped)
        print(f"broken images skipped: {count}, listed in {results.folder / 'skipped.csv'}")
    print(f"results: {results.folder}")
    if (model := last_model(results.folder)) is not None:
        print(f"model: {model}")
        print(f"next: crumb predict {shlex.quote(str(model))} CLIP")
    print(f"next: crumb report {shlex.quote(str(results.folder))}")


def last_model(folder: Path) -> Path | None:
    """The saved learner of the last run in a results folder; None if none was saved."""
    found = {
        int(name[1]): path
        for path in folder.iterdir()
        if (name := re.fullmatch(r"learner_run(\d+)\.safetensors", path.name))
    }
    return found[max(found)] if found else None


def settings(words: Sequence[str]) -> tuple[StreamConfig, NetworkConfig, Any]:
    """The three configurations of a run. Flags override the preset, the preset overrides defaults.

    Raises:
        InputError: words or preset do not fit.
    """
    folder, preset, words = take_settings(words, "stream")
    kind = _method(words, preset)
    given = option(words, "--method")
    parsed = parse_parts(
        "crumb stream" if given is None else f"crumb stream --method {given}",
        "Train a method on a stream and test it after every epoch. "
        "crumb stream --method M --help shows the settings of that method.",
        words,
        preset,
        (PRESET, RESUME),
        stream=StreamConfig(dataset=UNSET, save_model=True),
        network=NetworkConfig(),
        method=kind.Config(),
    )
    config: StreamConfig = parsed.stream
    if preset.get("about", "format") == FORMAT:
        budget = getattr(parsed.method, BUDGET, None)
        used = {"backbone": parsed.network.backbone, "mode": config.mode, BUDGET: budget}
        refuse_other_search(f"{preset.flag} {preset.name}", preset.sections["about"], used)
    if folder is not None:
        config = replace(config, output=folder, resume=True)
    return config, parsed.network, parsed.method


def _method(words: Sequence[str], preset: Preset) -> type[Learner]:
    """The class of the method, which determines the available flags."""
    if (given := option(words, "--method")) is not None:
        return find_method(given)
    named = preset.get("stream", "method")
    if named is None:
        return find_method("crumb")
    try:
        return find_method(named)
    except InputError as error:
        where = f"{preset.flag} {preset.name}, stream.method"
        raise InputError(where, f"is {named!r}: {error.parts[1]}", error.parts[2]) from error
