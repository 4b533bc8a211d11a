"""``crumb completion``: shell completion of commands, flags and choices."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import shtab

from crumb.cli.described import Command, commands
from crumb.cli.flags import HELP, Flag
from crumb.cli.parsing import parse
from crumb.kinds import Argument

# The words that follow these commands, beside those of the described commands.
_WORDS = {"runs": ("diff",), "presets": ("list", "show"), "ablate": ("list",)}


@dataclass(frozen=True)
class Completion:
    """Print the completion script of a shell: crumb completion bash >> ~/.bashrc."""

    shell: Annotated[Literal["bash", "zsh", "tcsh"], Argument(positional=True, metavar="SHELL")]
    """bash, zsh or tcsh."""


def run(words: Sequence[str]) -> None:
    """Print the script."""
    from crumb.cli.main import COMMANDS

    command = parse(Completion, words, "crumb completion")
    parser = argparse.ArgumentParser(prog="crumb", add_help=False)
    below = parser.add_subparsers()
    for name, about in COMMANDS.items():
        _fill(below.add_parser(name, help=about, add_help=False), name)
    print(shtab.complete(parser, shell=command.shell))


def _fill(parser: argparse.ArgumentParser, name: str) -> None:
    """All flags of a command, for all methods and data sets together."""
    found = {key: one for key, one in commands().items() if key.split()[0] == name}
    for word in HELP:
        parser.add_argument(word, action="store_true", help="show the help")
    for flag in _together([*found.values()]):
        if not flag.positional:
            _add(parser, flag)
    first = {key.split()[1] for key in found if " " in key} if name in _FIRST else set()
    if first := sorted({*first, *_WORDS.get(name, ()), *_choices(found)}):
        parser.add_argument("first", choices=first)
    _complete_files(parser.add_argument("what", nargs="*"))


_FIRST = ("tune", "index", "data")


def _choices(found: dict[str, Command]) -> Iterator[str]:
    """The choices of positional arguments."""
    for command in found.values():
        for flag in command.flags:
            if flag.positional:
                yield from flag.choices


def _together(found: Sequence[Command]) -> list[Flag]:
    """The flags of several commands; a flag that they share has the choices of all."""
    flags: dict[str, Flag] = {}
    for command in found:
        for flag in command.flags:
            known = flags.get(flag.name, flag)
            choices = tuple(dict.fromkeys((*known.choices, *flag.choices)))
            flags[flag.name] = replace(flag, choices=choices)
    return [*flags.values()]


def _add(parser: argparse.ArgumentParser, flag: Flag) -> None:
    words = [flag.word, *([flag.alias] if flag.alias else [])]
    # A percent sign would be a format.
    about = flag.help.split(". ")[0].replace("%", "%%")
    if flag.type == "bool":
        words.append(flag.word.replace("--", "--no-", 1))
        parser.add_argument(*words, action="store_true", help=about)
        return
    nargs = "*" if flag.many else None
    added = parser.add_argument(
        *words, nargs=nargs, choices=flag.choices or None, help=about, metavar=flag.metavar
    )
    if flag.type == "path":
        _complete_files(added)


def _complete_files(action: Any) -> None:
    action.complete = shtab.FILE
