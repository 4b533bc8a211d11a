"""What each command takes, written down, so that help and mistakes do not wait for torch.

``flags.json`` is written by ``tools/make_settings.py``; a test says when that is due.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from crumb.cli.flags import HELP, Flag, read, refuse_missing
from crumb.cli.parsing import check_classes, option, without

FILE = "flags.json"
_BY_METHOD = {"stream": "crumb", "learn": "slda"}
_BY_FIRST_WORD = ("tune", "index", "data")
# Settings that are read from a file may give what the words leave out.
_FROM_FILES = ("--preset", "--resume")


@dataclass(frozen=True)
class Command:
    """One command, with the method or data set that says which flags it has.

    Attributes:
        program: as messages name it.
        about: what it does.
        flags: all that it takes.
    """

    program: str
    about: str
    flags: tuple[Flag, ...]


def check(words: Sequence[str]) -> None:
    """Refuse words that cannot be, before anything heavy is imported.

    Commands and methods that are not written down are left to their own parsers.

    Raises:
        HelpAsked: a word asks for help.
        InputError: an unknown flag, a value that is missing or of another type, a word too many.
    """
    found = look_up(words)
    if found is None:
        return
    command, rest = found
    given = list(rest)
    for flag in _FROM_FILES:
        given = without(given, flag)
    check_classes(given)
    values = read(command.flags, given, command.program, command.about)
    if len(given) == len(rest):
        refuse_missing(command.flags, values, command.program)


def look_up(words: Sequence[str]) -> tuple[Command, list[str]] | None:
    """The command that words call, and the words that are left for its flags."""
    name, *rest = words
    key = name
    if name in _BY_METHOD:
        method = option(rest, "--method")
        if method is None and any(option(rest, flag) is not None for flag in _FROM_FILES):
            return None
        key = f"{name} {method or _BY_METHOD[name]}"
    elif name == "ablate" and rest[:1] == ["list"]:
        return None
    elif name in _BY_FIRST_WORD and rest:
        first = "crumb" if name == "tune" and rest[0] in HELP else rest[0]
        key = f"{name} {first}"
        # The method of a search is one of its settings; data sets and actions are none.
        rest = rest if name == "tune" else rest[1:]
    found = commands().get(key)
    return None if found is None else (found, rest)


@cache
def commands() -> dict[str, Command]:
    """Every command that is written down, by its first words."""
    content = json.loads((files("crumb.cli") / FILE).read_text(encoding="utf-8"))
    known = [
        Flag(**{k: tuple(v) if isinstance(v, list) else v for k, v in one.items()})
        for one in content["flags"]
    ]
    return {
        name: Command(one["program"], one["about"], tuple(known[n] for n in one["flags"]))
        for name, one in content["commands"].items()
    }


def as_json(known: Mapping[str, Command]) -> str:
    """The content of the file. Many commands share a flag, which is written once."""
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
    """What is not as it usually is."""
    values = asdict(flag)
    for field in fields(Flag):
        if field.default is MISSING or values[field.name] != field.default:
            yield field.name, values[field.name]
