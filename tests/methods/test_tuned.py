"""What ``crumb tune`` may search, of every registered method."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_type_hints

import pytest

from crumb.experiments.draws import MAX_TUNED, draw, ranges_of
from crumb.methods.registry import find_method, methods


@pytest.mark.parametrize("name", methods())
def test_what_is_tuned_is_a_setting_that_takes_both_ends(name: str):
    kind = find_method(name)
    hints = get_type_hints(kind.Config)
    for setting, bounds in kind.tuned.items():
        usual = getattr(kind.Config(), setting)
        if hints[setting] in (int, float):
            assert {type(end) for end in bounds} == {hints[setting]}
            low, high = map(float, bounds)
            assert 0 < low < high
            assert low <= usual <= high
        else:
            assert usual in bounds
            assert len(set(bounds)) == len(bounds) > 1
        for value in bounds:
            kind.Config(**{setting: value})
    # It is searched anyway where steps are taken on the stream.
    assert not (kind.trains and "lr" in kind.tuned)
    assert len(kind.tuned) < MAX_TUNED


@pytest.mark.parametrize("name", methods())
def test_every_draw_is_accepted(name: str):
    kind = find_method(name)
    ranges = ranges_of(kind, kind.Config())
    assert tuple(ranges) == kind.searched()
    for values in draw(ranges, 50, kind):
        kind.Config(**values)


def test_the_documentation_has_every_range():
    text = (Path(__file__).parents[2] / "docs" / "concepts.md").read_text()
    table = text.partition("| method | setting | range |\n")[2].partition("\n\n")[0]
    found: dict[str, dict[str, tuple[object, ...]]] = {}
    for names, setting, ends in re.findall(r"\| (.+) \| `(.+)` \| (.+) \|", table):
        range_ = tuple(float(end.replace(",", "")) for end in ends.split(" to ") if " to " in ends)
        for name in names.split(", "):
            found.setdefault(name.strip("`"), {})[setting] = range_ or tuple(ends.split(" or "))
    assert found == {name: kind.tuned for name, kind in methods().items() if kind.tuned}
