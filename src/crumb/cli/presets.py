"""``crumb presets``: the published settings that come with the package."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Annotated

from crumb.cli.flags import HELP
from crumb.cli.parsing import near_names, parse, preset_names
from crumb.errors import InputError, meant
from crumb.files import read_text, read_toml
from crumb.kinds import Argument

_HELP = """usage: crumb presets [list [WHICH] | show NAME]

The settings of published experiments, for --preset of crumb stream and crumb pretrain.

  list [WHICH]   all presets by data set, or only those of a data set, a method or a part of a name
  show NAME     the file of one, with the script it was taken from"""
_RUN = "crumb presets show NAME prints one; --preset NAME of crumb stream (or pretrain) runs it."
_VARIANTS = "ablation"


@dataclass(frozen=True)
class ListPresets:
    """List the presets by data set: name, method and source script."""

    which: Annotated[str, Argument(positional=True, metavar="WHICH")] = ""
    """A data set, a method or a part of a name. Default: all."""


@dataclass(frozen=True)
class ShowPreset:
    """Print the file of a preset."""

    name: Annotated[str, Argument(positional=True, metavar="NAME")]
    """Name of the preset (see `crumb presets list`), such as core50/crumb."""


@dataclass(frozen=True)
class Entry:
    """A preset in the list.

    Attributes:
        name: the value for ``--preset``.
        method: name of the method.
        source: script of the published code.
    """

    name: str
    method: str
    source: str

    @property
    def group(self) -> str:
        """The data set, or "pretrain"."""
        return self.name.partition("/")[0]

    @property
    def is_variant(self) -> bool:
        """Whether it is a variant of a method, such as an ablation."""
        return f"/{_VARIANTS}/" in self.name

    @property
    def short_source(self) -> str:
        """The source scripts with their folders."""
        return ", ".join("/".join(path.split("/")[-2:]) for path in self.source.split(", "))


def run(words: Sequence[str]) -> None:
    """Run the action named by the first word."""
    action, *rest = words or ["list"]
    if action in HELP:
        print(_HELP)
    elif action == "list":
        print(_listing(parse(ListPresets, rest, "crumb presets list").which))
    elif action == "show":
        print(_text(parse(ShowPreset, rest, "crumb presets show").name), end="")
    else:
        known = ("list", "show")
        problem = f"is unknown{meant(action, known)}"
        raise InputError(f"crumb presets {action}", problem, "give list or show")


def _entries() -> list[Entry]:
    entries = []
    for name in preset_names():
        sections = read_toml(_file(name), "install the package again")
        method = sections.get("stream", {}).get("method", "crumb")
        entries.append(Entry(name, method, sections["about"]["source"]))
    return sorted(entries, key=lambda entry: (entry.group == "pretrain", entry.group))


def _listing(which: str) -> str:
    """The matching presets as text.

    Raises:
        InputError: no preset matches.
    """
    entries = _entries()
    chosen = _fitting(entries, which)
    parts = [_table(chosen), _RUN] if which else [_overview(entries)]
    if which in {entry.group for entry in entries} and len(chosen) < _count(entries, which):
        more = _count(entries, which) - len(chosen)
        parts.insert(1, f"and {more} variants of crumb: crumb presets list {which}/{_VARIANTS}")
    return "\n\n".join(parts)


def _count(entries: Sequence[Entry], group: str) -> int:
    return sum(entry.group == group for entry in entries)


def _fitting(entries: Sequence[Entry], which: str) -> list[Entry]:
    """The presets of a data set or method ``which``, else those whose name starts with it, else
    contains it.
    """
    own = [entry for entry in entries if which in (entry.group, entry.method)]
    for chosen in (
        [entry for entry in own if not entry.is_variant],
        [entry for entry in entries if entry.name.startswith(which)],
        [entry for entry in entries if which in entry.name],
    ):
        if chosen:
            return chosen
    known = {entry.group for entry in entries} | {entry.method for entry in entries}
    raise _unknown(f"list {which}", which, [*sorted(known), *preset_names()])


def _overview(entries: Sequence[Entry]) -> str:
    """The names of all presets, one paragraph per data set."""
    paragraphs = []
    for group, found in groupby(entries, lambda entry: entry.group):
        members = list(found)
        names = [entry.name.partition("/")[2] for entry in members if not entry.is_variant]
        variants = len(members) - len(names)
        if variants:
            names.append(f"{_VARIANTS}/ ({variants} variants of crumb)")
        text = textwrap.fill(", ".join(names), 96, initial_indent="  ", subsequent_indent="  ")
        paragraphs.append(f"{group}/\n{text}")
    more = [
        "crumb presets list core50           where each is from; or of a method",
        "crumb presets show core50/crumb     prints one",
        "crumb stream DATA --preset core50/crumb",
    ]
    return "\n\n".join([*paragraphs, "\n".join(more)])


def _table(entries: Sequence[Entry]) -> str:
    """One line per preset: name, method, source."""
    rows = [(entry.name, entry.method, entry.short_source) for entry in entries]
    name, method = (max(len(row[place]) for row in rows) for place in range(2))
    lines = []
    for group, members in groupby(rows, lambda row: row[0].partition("/")[0]):
        lines += ["", group]
        lines += [f"  {row[0]:{name}}  {row[1]:{method}}  {row[2]}" for row in members]
    return "\n".join(lines[1:])


def _text(name: str) -> str:
    """The text of a preset's file, with its name in a comment above.

    Raises:
        InputError: no such preset. The message suggests similar names.
    """
    if name not in preset_names():
        raise _unknown(f"show {name}", name, preset_names())
    return f"# {name}\n{read_text(_file(name), 'install the package again')}"


def _file(name: str) -> Path:
    return Path(str(files("crumb") / "presets" / f"{name}.toml"))


def _unknown(action: str, name: str, known: Sequence[str]) -> InputError:
    problem = "no such preset"
    return InputError(f"crumb presets {action}", problem, near_names(name, known))
