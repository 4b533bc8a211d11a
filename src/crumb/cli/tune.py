"""``crumb tune``: search the learning rate and other settings of a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from crumb.cli.flags import HELP
from crumb.cli.parsing import PRESET, Preset, parse_parts, take_preset
from crumb.errors import InputError
from crumb.experiments.tune import TuneConfig, plan, tune
from crumb.experiments.tuned import Trial, best
from crumb.kinds import UNSET
from crumb.methods.base import Learner
from crumb.methods.described import Bounds
from crumb.methods.registry import find_method, is_method
from crumb.nets.config import NetworkConfig
from crumb.reports.table import plain
from crumb.stream.config import StreamConfig


def run(words: Sequence[str]) -> None:
    """Run the trials, then print them and the file with the chosen values."""
    search = plan(*settings(words))
    print(f"searched: {_named({n: _range(bounds) for n, bounds in search.ranges.items()})}")
    trials: list[Trial] = []
    try:
        for trial in tune(search):
            trials.append(trial)
            scored = "diverged" if trial.accuracy is None else f"{trial.accuracy:.1f} %"
            which = f"trial {trial.number} (of {search.config.trials})"
            print(f"{which}: {_named(_texts(trial))}: {scored}", flush=True)
    except InputError:
        if any(trial.accuracy is not None for trial in trials):
            print(f"\n{_table(trials)}")
        raise
    # Ties go to the earliest trial, as in tuned.toml.
    chosen = best(sorted(trials, key=lambda trial: trial.number)).number
    print(f"\n{_table(trials, chosen)}\n\nfor --preset: {search.tuned}")


def settings(words: Sequence[str]) -> tuple[TuneConfig, NetworkConfig, Any]:
    """The three configurations of tuning. Flags override the preset, the preset overrides defaults.

    Raises:
        InputError: words or preset do not fit.
    """
    kind = _method(words)
    preset, rest = take_preset(words)
    parsed = parse_parts(
        f"crumb tune {words[0]}" if words[:1] and words[0] not in HELP else "crumb tune",
        "Search the learning rate and other settings of a method on held-out training clips. "
        "crumb tune METHOD --help shows the settings of that method.",
        rest,
        for_method(preset, kind.name, TuneConfig),
        (PRESET,),
        stream=TuneConfig(UNSET, method=UNSET),
        network=NetworkConfig(),
        method=kind.Config(),
    )
    return parsed.stream, parsed.network, parsed.method


def _method(words: Sequence[str]) -> type[Learner]:
    """The class of the method (the first word), which determines the available flags."""
    name = words[0] if words else ""
    if {*HELP} & {*words} and not is_method(name):
        return find_method("crumb")
    if not name or name.startswith("-"):
        raise InputError(
            "crumb tune", "the first word, METHOD, is missing", "see crumb tune --help"
        )
    try:
        return find_method(name)
    except InputError as error:
        raise InputError(f"crumb tune {name}", *error.parts[1:]) from error


def for_method(preset: Preset, method: str, kind: type) -> Preset:
    """A preset of streams without the settings that do not apply to this command.

    Args:
        preset: a preset of ``crumb stream``.
        method: the method that the preset must be of.
        kind: the configuration of this command, instead of that of a stream.

    Raises:
        InputError: it is of another method.
    """
    stream = preset.sections.get("stream")
    if not isinstance(stream, Mapping):
        return preset
    other = stream.get("method", method)
    if other != method:
        raise InputError(f"--preset {preset.name}", f"is for the method {other!r}", "give another")
    own, known = ({part.name for part in fields(kind)} for kind in (kind, StreamConfig))
    unused = known - own | {"method"}
    kept = {name: value for name, value in stream.items() if name not in unused}
    return replace(preset, sections={**preset.sections, "stream": kept})


def _named(texts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def _texts(trial: Trial) -> dict[str, str]:
    return {name: _text(value) for name, value in trial.values.items()}


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _range(bounds: Bounds) -> str:
    between = " or " if isinstance(bounds[0], str) else " to "
    return between.join(map(_text, bounds))


def _table(trials: Sequence[Trial], chosen: int | None = None) -> str:
    """One row per trial, with the chosen one marked."""
    head = ["trial", *trials[0].values, "held-out accuracy, %", "seconds", ""]
    rows = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        figures = ["diverged", "-"]
        if trial.accuracy is not None and trial.seconds is not None:
            figures = [f"{trial.accuracy:.1f}", f"{trial.seconds:.1f}"]
        mark = "chosen" if trial.number == chosen else ""
        rows.append([str(trial.number), *_texts(trial).values(), *figures, mark])
    return plain(head, rows).text()
