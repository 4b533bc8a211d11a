"""Words to values: what flags of each type take, and what is said where they do not fit."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from crumb.cli.described import check
from crumb.cli.flags import Flag, HelpAsked, filled, flags_of, read, refuse_missing
from crumb.cli.main import COMMANDS
from crumb.cli.parsing import Preset, parse_parts
from crumb.cli.usage import EXAMPLES, GROUPS, text
from crumb.errors import InputError
from crumb.kinds import UNSET, Argument


@dataclass(frozen=True)
class Inner:
    """Inside. More of it."""

    share: float | None = None
    """A share.
    On two lines."""


@dataclass(frozen=True)
class Base:
    root: Annotated[Path, Argument(positional=True)]
    """A folder."""
    count: int = 3
    """How many."""


@dataclass(frozen=True)
class Outer(Base):
    """Outside."""

    clips: Annotated[tuple[str, ...], Argument(positional=True)] = ()
    kind: Literal["red", "blue"] | None = None
    top_k: tuple[int, ...] = (1, 5)
    deep: bool = False
    """Deeply."""
    output: Annotated[Path, Argument(alias="-o")] = Path("out")
    hidden: Annotated[Any, Argument(hidden=True)] = None
    inner: Inner = field(default_factory=Inner)


FLAGS = flags_of(Outer)


def values(*words: str) -> dict[str, Any]:
    return read(FLAGS, words, "crumb try")


def refusal(*words: str) -> str:
    with pytest.raises(InputError) as refused:
        values(*words)
    return refused.value.in_flags()


def test_fields_are_flags():
    assert {flag.name for flag in FLAGS} == {
        *("root", "count", "clips", "kind", "top_k", "deep", "output", "share")
    }
    by_name = {flag.name: flag for flag in FLAGS}
    root = Flag("root", "path", "A folder.", "Outside", required=True, positional=True)
    assert by_name["root"] == Flag(**{**vars(root), "metavar": "ROOT"})
    assert by_name["share"].help == "A share. On two lines."
    assert by_name["share"].section == "Inside. More of it"
    assert (by_name["top_k"].many, by_name["top_k"].default) == (True, "1 5")
    assert by_name["kind"].choices == ("red", "blue")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a"], {"root": Path("a")}),
        (["a", "b", "c"], {"root": Path("a"), "clips": ("b", "c")}),
        (["a", "--count", "-4"], {"root": Path("a"), "count": -4}),
        (["--count=4", "a"], {"root": Path("a"), "count": 4}),
        (["--count", "4", "--count", "5"], {"count": 5}),
        (["--share", "-1e-3"], {"share": -1e-3}),
        (["--share", "None"], {"share": None}),
        (["--kind", "red"], {"kind": "red"}),
        (["--top-k", "1", "2", "--deep", "a"], {"top_k": (1, 2), "deep": True, "root": Path("a")}),
        (["--top_k=3"], {"top_k": (3,)}),
        (["--deep", "--no-deep"], {"deep": False}),
        (
            ["-o", "x", "--", "--count", "-b"],
            {"output": Path("x"), "root": Path("--count"), "clips": ("-b",)},
        ),
        (["-"], {"root": Path("-")}),
    ],
    ids=" ".join,
)
def test_words_become_values(words: list[str], expected: dict[str, Any]):
    assert values(*words) == expected


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--cuont", "3"],
            "crumb try: has no flag --cuont (did you mean --count?); see crumb try --help",
        ),
        (["--hidden", "3"], "crumb try: has no flag --hidden; see crumb try --help"),
        (["-x"], "crumb try: has no flag -x; see crumb try --help"),
        (["--count"], "--count: has no value; give a whole number"),
        (["--count="], "--count: has no value; give a whole number"),
        (["--top-k", "--deep"], "--top-k: has no value; give a whole number"),
        (["--count", "--deep"], "--count: has no value; give a whole number"),
        (["--count", "3.5"], "--count 3.5: is of the wrong type; give a whole number"),
        (["--share", "much"], "--share much: is of the wrong type; give a number"),
        (
            ["--kind", "rad"],
            "--kind rad: no such choice (did you mean red?); give one of red, blue",
        ),
        (["--deep=3"], "--deep=3: takes no value; give --deep alone"),
        (["a\0b"], "ROOT a\0b: is of the wrong type; give a path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_do_not_fit(words: list[str], line: str):
    assert refusal(*words) == line


def test_a_word_too_many_and_one_too_few():
    flags = flags_of(Base)
    with pytest.raises(InputError, match="crumb try: unexpected argument 'b'"):
        read(flags, ["a", "b"], "crumb try")
    with pytest.raises(InputError, match="crumb try: ROOT is missing; see crumb try --help"):
        refuse_missing(flags, read(flags, [], "crumb try"), "crumb try")


def test_a_configuration_is_filled():
    found = filled(Outer, None, values("a", "--share", "0.5"))
    assert found == Outer(Path("a"), inner=Inner(0.5))
    default = Outer(UNSET, count=7, inner=Inner(0.1))
    assert filled(Outer, default, values("a")) == Outer(Path("a"), count=7, inner=Inner(0.1))
    assert {flag.name for flag in flags_of(Outer, default) if flag.required} == {"root"}


@pytest.mark.parametrize(
    ("word", "everything"), [("--help", False), ("-h", False), ("--help-all", True)]
)
def test_help_is_asked_for(word: str, everything: bool):
    with pytest.raises(HelpAsked) as asked:
        values("--colour", word)
    assert asked.value.all == everything
    # A file may have that name.
    assert values("--", word) == {"root": Path(word)}


def test_help_is_short_and_all_of_it_is_one_word_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(GROUPS, "try", {"first": ("share", "root", "no such flag")})
    flags = [*FLAGS, *(Flag(f"more_{number}", "int", "Help.", "Others") for number in range(9))]
    short, whole = (text("crumb try", "Tries.", flags, everything) for everything in (False, True))
    assert short.splitlines()[0] == "usage: crumb try ROOT [CLIPS ...] [--FLAG VALUE ...]"
    assert "first:\n  --share FLOAT               A share. On two lines.\n  ROOT" in short
    assert short.endswith("crumb try --help-all shows the other 15 flags.")
    assert "more_8" not in short.replace("-", "_")
    assert "more: others:" in whole
    assert {f"--more-{number}" for number in range(9)} <= {*whole.split()}


def test_a_literal_of_numbers_holds_numbers():
    @dataclass(frozen=True)
    class Degrees:
        degree: Literal[1, 2] = 1

    assert read(flags_of(Degrees), ["--degree", "2"], "crumb try") == {"degree": 2}


def test_a_type_that_flags_cannot_have_is_one_line():
    @dataclass(frozen=True)
    class Odd:
        where: bytes = b""

    with pytest.raises(InputError, match="Odd.where: has a type that a flag cannot have"):
        flags_of(Odd)


def test_two_settings_of_one_name_are_refused():
    with pytest.raises(InputError, match="crumb try: has two settings called 'share'"):
        parse_parts("crumb try", "", [], Preset("", {}), one=Inner(), method=Inner(0.5))


@pytest.mark.parametrize(
    "example", [line for lines in EXAMPLES.values() for line in lines], ids=lambda line: line
)
def test_examples_in_help_are_words_that_fit(example: str):
    program, *words = shlex.split(example)
    assert program == "crumb"
    assert words[0] in COMMANDS
    check(words)
