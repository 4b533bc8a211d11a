"""``crumb completion``: commands and flags, completed by the shell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import shtab

from crumb.cli.described import Command, commands
from crumb.cli.flags import Flag
from crumb.cli.parsing import parse
from crumb.kinds import Argument


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
    known = commands()
    below = parser.add_subparsers()
    for name, about in COMMANDS.items():
        found = [one for key, one in known.items() if key.split()[0] == name]
        _fill(below.add_parser(name, help=about), found)
    print(shtab.complete(parser, shell=command.shell))


def _fill(parser: argparse.ArgumentParser, found: Sequence[Command]) -> None:
    """All flags of a command, whichever the method or the data set."""
    flags = {flag.word: flag for command in found for flag in command.flags}
    for flag in flags.values():
        if not flag.positional:
            _add(parser, flag)
    if any(flag.positional for flag in flags.values()):
        _complete_files(parser.add_argument("what", nargs="*"))


def _add(parser: argparse.ArgumentParser, flag: Flag) -> None:
    # A percent sign of a help text is no format.
    about = flag.help.split(". ")[0].replace("%", "%%")
    if flag.type == "bool":
        parser.add_argument(flag.word, action="store_true", help=about)
        return
    nargs = "*" if flag.many else None
    added = parser.add_argument(
        flag.word, nargs=nargs, choices=flag.choices or None, help=about, metavar=flag.metavar
    )
    if flag.type == "path":
        _complete_files(added)


def _complete_files(action: Any) -> None:
    action.complete = shtab.FILE
