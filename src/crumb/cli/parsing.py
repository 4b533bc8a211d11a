"""From words and presets to configuration dataclasses."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, make_dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import tyro

from crumb.errors import InputError
from crumb.files import read_toml

T = TypeVar("T")


def parse(kind: type[T], words: Sequence[str], program: str, default: T | None = None) -> T:
    """Parse ``words`` into the dataclass ``kind``.

    Raises:
        InputError: the words do not fit; the message is the parser's, on one line.
    """
    output = io.StringIO()
    flat: Any = tyro.conf.OmitArgPrefixes[kind]
    about = (kind.__doc__ or "").split("\n\n")[0]
    start = tyro.MISSING if default is None else default
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(flat, prog=program, args=list(words), description=about, default=start)
    except SystemExit as left:
        if not left.code:
            raise
    raise InputError(program, _first_paragraph(output.getvalue()), f"see {program} --help")


def _first_paragraph(box: str) -> str:
    """The text of the parser's box, without frame, hints and help texts."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()
    words = []
    for line in lines:
        text = line.strip("│╭╮╰╯ ")
        if words and (not text or set(text) <= {"─"}):
            break
        if text and "─" not in text:
            words.append(text)
    return " ".join(words).rstrip(".:")


def combine(name: str, doc: str, **parts: type) -> type:
    """A dataclass whose fields are other configurations; all their flags stand side by side."""
    kind = make_dataclass(name, list(parts.items()), frozen=True)
    kind.__doc__ = doc
    return kind


def option(words: Sequence[str], flag: str, default: str) -> str:
    """The value of one flag, read before the parser knows which flags there are."""
    for place, word in enumerate(words):
        if word == flag and place + 1 < len(words):
            return words[place + 1]
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return default


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


def read_preset(name: str) -> dict[str, Any]:
    """A preset by name (``core50/crumb``), or any TOML file of the same form.

    Raises:
        InputError: no such preset.
    """
    folder = Path(str(files("crumb") / "presets"))
    if name.endswith(".toml"):
        return read_toml(Path(name), "give a preset's name or a TOML file")
    names = sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.toml"))
    if name not in names:
        raise InputError(
            f"--preset {name}", "no such preset", f"choose a .toml file or {', '.join(names)}"
        )
    return read_toml(folder / f"{name}.toml", "install the package again")


def override(default: Any, values: Mapping[str, Any], where: str) -> Any:
    """A configuration with some fields replaced by what a preset says.

    Raises:
        InputError: a key that the configuration does not have, or a value of another type.
    """
    known = {field.name: getattr(default, field.name) for field in fields(default)}
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(where, f"has an unknown key {key!r}", f"use {', '.join(known)}")
        old = known[key]
        if is_dataclass(old):
            changes[key] = override(old, value, f"{where}.{key}")
        else:
            _check_type(old, value, f"{where}.{key}")
            changes[key] = tuple(value) if isinstance(value, list) else value
    return replace(default, **changes)


def _check_type(old: object, value: object, where: str) -> None:
    """TOML's own types must be those of the default; None admits any."""
    expected: Any = {tuple: list, float: (int, float), Path: str}.get(type(old), type(old))
    wrong = not isinstance(value, expected) or isinstance(value, bool) != isinstance(old, bool)
    if old is not None and old is not tyro.MISSING and wrong:
        raise InputError(where, f"is {value!r}", f"give a value like {old!r}")
