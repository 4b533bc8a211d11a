"""From words and presets to configuration dataclasses."""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, get_type_hints

from crumb.cli.flags import METHOD_SETTINGS, Flag, filled, flags_of, read, refuse_missing
from crumb.errors import InputError
from crumb.files import read_toml
from crumb.kinds import as_kind, described

T = TypeVar("T")

_SEE = "see crumb presets list"
_QUOTED = "a text in quotes"
_TOML = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: _QUOTED,
    Path: _QUOTED,
}
_PRESETS = Path(str(files("crumb") / "presets"))


PRESET = Flag(
    "preset",
    "str",
    "Preset of a paper's experiment (crumb presets lists them), or a TOML file. Flags override it.",
    metavar="NAME",
)
RESUME = Flag(
    "resume",
    "path",
    "Continue the interrupted runs in this results folder, with the settings stored in it.",
    metavar="DIR",
)


def parse(kind: type[T], words: Sequence[str], program: str) -> T:
    """Parse ``words`` into the dataclass ``kind``, whose fields are the flags.

    Raises:
        HelpAsked: a word asks for help.
        InputError: the words do not fit.
    """
    flags = flags_of(kind)
    values = read(flags, words, program, (kind.__doc__ or "").split("\n\n")[0])
    refuse_missing(flags, values, program)
    return filled(kind, None, values)


def parse_parts(
    program: str,
    doc: str,
    words: Sequence[str],
    preset: Preset,
    also: Sequence[Flag] = (),
    **defaults: Any,
) -> Any:
    """Parse words into several configurations whose flags stand side by side.

    Flags override the preset, and the preset overrides ``defaults``. Each keyword is a section of
    the preset.

    Args:
        program: the command, for messages and help.
        doc: what the command does.
        words: words of the command line.
        preset: the preset.
        also: flags that the caller has taken from the words, for help and suggestions.
        defaults: the configurations with their defaults.

    Returns:
        an object with one attribute for each keyword.

    Raises:
        HelpAsked: a word asks for help.
        InputError: the words or the preset do not fit, or two configurations share a name.
    """
    parts = preset.fill(defaults)
    flags = [*also]
    for name, part in parts.items():
        flags += flags_of(type(part), part, METHOD_SETTINGS if name == "method" else "")
    _refuse_shared(flags, program)
    values = read(flags, words, program, doc)
    refuse_missing(flags, values, program)
    return SimpleNamespace(
        **{name: filled(type(part), part, values) for name, part in parts.items()}
    )


def _refuse_shared(flags: Sequence[Flag], program: str) -> None:
    names = Counter(flag.name for flag in flags)
    if shared := [name for name, count in names.items() if count > 1]:
        problem = f"has two settings called {shared[0]!r}"
        raise InputError(program, problem, "rename the one of the method")


def option(words: Sequence[str], flag: str) -> str | None:
    """The value of one flag, read before the parser knows which flags there are; the last wins."""
    found = None
    for word, following in itertools.zip_longest(words, words[1:]):
        if word == flag:
            found = following
        elif word.startswith(flag + "="):
            found = word.partition("=")[2]
    return found


def without(words: Sequence[str], flag: str) -> list[str]:
    """The words without one flag and its value."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == flag:
            skip = True
        elif not word.startswith(flag + "="):
            kept.append(word)
    return kept


@dataclass(frozen=True)
class Preset:
    """Settings from a TOML file.

    Attributes:
        name: as it was given; empty where none was.
        sections: keys and values by section; ``about`` is for readers and sets nothing.
        flag: that named it.
    """

    name: str
    sections: Mapping[str, Any]
    flag: str = "--preset"

    def get(self, section: str, key: str) -> Any:
        """One value as the file has it, or None."""
        values = self.sections.get(section)
        return values.get(key) if isinstance(values, Mapping) else None

    def fill(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The default configurations with what the preset says in their places.

        Raises:
            InputError: naming preset, section and key: unknown, of another type or out of range.
        """
        if unknown := sorted(self.sections.keys() - defaults.keys() - {"about"}):
            raise InputError(
                f"{self.flag} {self.name}",
                f"has an unknown section {unknown[0]!r}",
                f"use {', '.join(defaults)} or about",
            )
        return {
            part: override(value, self.sections.get(part, {}), f"{self.flag} {self.name}, {part}")
            for part, value in defaults.items()
        }


def take_preset(words: Sequence[str]) -> tuple[Preset, list[str]]:
    """The preset that ``--preset`` names, and the words without that flag.

    Raises:
        InputError: the flag has no value, or see :func:`read_preset`.
    """
    rest = without(words, "--preset")
    if len(rest) == len(words):
        return Preset("", {}), rest
    name = option(words, "--preset")
    if not name or name.startswith("--"):
        raise InputError("--preset", "names no preset", f"choose a .toml file, or {_SEE}")
    return Preset(name, read_preset(name)), rest


def read_preset(name: str) -> dict[str, Any]:
    """A preset by name (``core50/crumb``), or any TOML file of the same form.

    Raises:
        InputError: no such preset, or not TOML.
    """
    if name.endswith(".toml"):
        return read_toml(Path(name), "give a preset's name or a TOML file")
    if name not in preset_names():
        raise InputError(f"--preset {name}", "no such preset", near_names(name, preset_names()))
    return read_toml(_PRESETS / f"{name}.toml", "install the package again")


def preset_names() -> list[str]:
    """Every preset that comes with the package, sorted."""
    paths = _PRESETS.rglob("*.toml")
    return sorted(path.relative_to(_PRESETS).with_suffix("").as_posix() for path in paths)


def near_names(name: str, known: Sequence[str]) -> str:
    """What may have been meant by the name of a preset that there is not, as a remedy."""
    longer = [other for other in known if other.startswith(name)]
    near = (longer or difflib.get_close_matches(name, known, 4))[:4]
    return f"did you mean {', '.join(near)}?" if near else _SEE


def override(default: Any, values: Any, where: str) -> Any:
    """A configuration with some fields replaced by a table of a preset.

    Raises:
        InputError: naming ``where``: no table, a key that the configuration does not have, or a
            value of another type or out of range.
    """
    if not isinstance(values, Mapping):
        raise InputError(where, f"is {values!r}", "make it a table")
    hints = get_type_hints(type(default))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise InputError(where, f"has an unknown key {key!r}", f"use {', '.join(hints)}")
        old = getattr(default, key)
        if is_dataclass(old):
            changes[key] = override(old, value, f"{where}.{key}")
        else:
            changes[key] = _convert(value, hints[key], f"{where}.{key}")
    try:
        return replace(default, **changes)
    except InputError as error:
        raise InputError(
            where, f"does not fit ({error.in_flags()})", "correct the preset"
        ) from error


def _convert(value: object, hint: Any, where: str) -> Any:
    """A value of a TOML file as the type that a field is annotated with."""
    try:
        return as_kind(value, hint)
    except TypeError as error:
        raise InputError(where, f"is {value!r}", f"give {described(hint, _TOML)}") from error
