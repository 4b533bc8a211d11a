"""``crumb methods``: list the learning methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crumb import plugins
from crumb.cli.parsing import parse
from crumb.methods.facts import facts_of, own_facts
from crumb.reports.table import plain

_HEAD = ("method", "what it does", "paper", "keeps", "task boundaries", "strict")


@dataclass(frozen=True)
class Methods:
    """List the methods: paper, what they keep, whether they need task boundaries, strict mode.

    Includes the methods of installed packages.
    """


def run(words: Sequence[str]) -> None:
    """Print one line per method."""
    parse(Methods, words, "crumb methods")
    found, broken = own_facts(), []
    if plugins.names(plugins.METHODS):
        from crumb.methods.registry import installed_methods

        kinds, broken = installed_methods()
        found = {name: facts_of(kind) for name, kind in kinds.items()}
    rows = [
        (name, one.summary, one.paper, one.keeps, one.boundaries, _yes(one.strict))
        for name, one in found.items()
    ]
    print(plain(_HEAD, rows, numbers=False).text())
    for error in broken:
        print(error)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
