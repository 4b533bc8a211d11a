"""The flags of each command, from a file, so that help and bad words do not wait for torch.

``tools/make_settings.py`` writes ``flags.json``. A test fails when the file is out of date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from crumb.cli.flags import Flag, read, refuse_missing
from crumb.cli.parsing import option
from crumb.errors import InputError
from crumb.methods.facts import refuse_unknown

FILE = "flags.json"
_BY_METHOD = ("stream", "learn")
_BY_FIRST_WORD = ("index", "data")
# Settings from a file may contain what the words leave out.
_FROM_FILES = ("preset", "resume")


@dataclass(frozen=True)
class Command:
    """One command, for a method or data set if its flags depend on one.

    Attributes:
        program: its name in messages.
        about: what it does.
        flags: all its flags.
    """

    program: str
    about: str
    flags: tuple[Flag, ...]


def check(words: Sequence[str]) -> None:
    """Refuse bad words before anything heavy is imported.

    The parser of the command itself checks what this file does not describe, such as methods of
    other packages.

    Raises:
        HelpAsked: a word asks for help.
        InputError: an unknown flag or method, a missing value, a value of another type, an
            unexpected word.
    """
    found = look_up(words)
    if found is None:
        return
    command, rest = found
    values = read(command.flags, rest, command.program, command.about)
    if not {*_FROM_FILES} & {*values}:
        refuse_missing(command.flags, values, command.program)
    for name in values.get("methods", ()):
        if name != "all":
            refuse_unknown(name, "methods")


def look_up(words: Sequence[str]) -> tuple[Command, list[str]] | None:
    """The command that the words call, and the words that are left for its flags.

    Raises:
        InputError: there is no such method.
    """
    name, *rest = words
    key = name
    if name in _BY_METHOD:
        method = option(rest, "--method")
        files = [option(rest, f"--{flag}") for flag in _FROM_FILES]
        # The method may be in the file.
        if method is None and any(one and not one.startswith("--") for one in files):
            return None
        if method and not method.startswith("--"):
            refuse_unknown(method)
            key = f"{name} {method}"
    elif name == "tune" and rest and not rest[0].startswith("-"):
        try:
            refuse_unknown(rest[0])
        except InputError as error:
            raise InputError(f"crumb tune {rest[0]}", *error.parts[1:]) from error
        key = f"{name} {rest[0]}"
    elif name == "ablate" and rest[:1] == ["list"]:
        return None
    elif name == "ablate":
        method = option(rest, "--method")
        if method and not method.startswith("--"):
            # Other methods are refused before their flags.
            known = [flag for flag in commands()[name].flags if flag.name == "method"]
            read(known, ["--method", method], "crumb ablate")
            key = f"{name} {method}"
    elif name in _BY_FIRST_WORD and rest:
        key, rest = f"{name} {rest[0]}", rest[1:]
    found = commands().get(key)
    return None if found is None else (found, rest)


@cache
def commands() -> dict[str, Command]:
    """All described commands, by their first words."""
    content = json.loads((files("crumb.cli") / FILE).read_text(encoding="utf-8"))
    known = [Flag(**{**one, "choices": tuple(one.get("choices", ()))}) for one in content["flags"]]
    return {
        name: Command(one["program"], one["about"], tuple(known[n] for n in one["flags"]))
        for name, one in content["commands"].items()
    }


def as_json(known: Mapping[str, Command]) -> str:
    """The content of the file. A flag that commands share is written once."""
    flags = [*dict.fromkeys(flag for command in known.values() for flag in command.flags)]
    numbers = {flag: number for number, flag in enumerate(flags)}
    lines = [json.dumps(dict(_told(flag)), ensure_ascii=False) for flag in flags]
    commands = [
        f"{json.dumps(name)}: "
        + json.dumps(
            {
                "program": one.program,
                "about": one.about,
                "flags": [numbers[flag] for flag in one.flags],
            },
            ensure_ascii=False,
        )
        for name, one in known.items()
    ]
    between = ",\n"
    return (
        f'{{"flags": [\n{between.join(lines)}\n],\n"commands": {{\n{between.join(commands)}\n}}}}\n'
    )


def _told(flag: Flag) -> Iterator[tuple[str, Any]]:
    """The attributes that differ from their defaults."""
    values = asdict(flag)
    for field in fields(Flag):
        if field.default is MISSING or values[field.name] != field.default:
            yield field.name, values[field.name]
