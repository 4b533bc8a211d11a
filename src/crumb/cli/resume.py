"""``--resume DIR``: take the settings from a results folder instead of a preset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crumb.cli.parsing import Preset, option, take_preset, without
from crumb.errors import InputError
from crumb.files import read_toml


def take_settings(words: Sequence[str], command: str) -> tuple[Path | None, Preset, list[str]]:
    """The settings to start from (of the folder to resume, or of the preset), and the remaining
    words.

    Flags override either. Conflicts with the folder are reported when it is opened.

    Args:
        words: words of the command.
        command: stream or pretrain.

    Raises:
        InputError: the folder is missing or of another command, or a preset was given too.
    """
    rest = without(words, "--resume")
    if len(rest) == len(words):
        return None, *take_preset(words)
    name = option(words, "--resume")
    if not name or name.startswith("-"):
        raise InputError("--resume", "names no folder", "give the results folder to resume")
    if len(without(rest, "--preset")) < len(rest):
        raise InputError("--preset", "cannot be given with --resume", "leave it out")
    remedy = f"give a folder written by crumb {command}"
    settings = read_toml(Path(name) / "config.toml", remedy)
    if (other := settings.get("command", "stream")) != command:
        raise InputError(f"--resume {name}", f"was not written by crumb {command}", _with(other))
    output = option(rest, "--output")
    if output is not None and Path(output).resolve() != Path(name).resolve():
        raise InputError(f"--output {output}", f"contradicts --resume {name}", "leave it out")
    parts = {part: settings.get(part, {}) for part in ("stream", "network", "method")}
    return Path(name), Preset(name, parts, "--resume"), rest


def _with(command: object) -> str:
    return f"resume with crumb {command}" if command in ("stream", "pretrain") else "give another"
