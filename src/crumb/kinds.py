"""Convert values to annotated types, or refuse them in one line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from crumb.errors import InputError, require, setting

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    Path: "a path",
}

UNSET: Any = ...
"""Stands for the value of a setting that a command line must give."""


@dataclass(frozen=True)
class Argument:
    """How a field of a configuration is given on the command line: ``Annotated[Path, Argument()]``.

    Attributes:
        positional: by its place, not by a name.
        metavar: what stands for the value in help.
        alias: short name, such as ``-o``.
        hidden: not at all.
        default: the default in words, if it depends on the machine.
    """

    positional: bool = False
    metavar: str = ""
    alias: str = ""
    hidden: bool = False
    default: str = ""


def check_kinds(config: Any) -> None:
    """Bring the fields of a frozen dataclass to the types that they are annotated with.

    Whole numbers become floats, lists tuples, and numbers of NumPy numbers of Python, so that equal
    settings are equal in every file that is written.

    Args:
        config: the dataclass, in its ``__post_init__``. A field that is :data:`UNSET` stays so.

    Raises:
        InputError: a field has a value of another type; names the first one.
    """
    for name, kind in _kinds_of(type(config)).items():
        value = getattr(config, name)
        if value is not UNSET:
            object.__setattr__(config, name, given(name, value, kind))


@cache
def _kinds_of(config: type) -> dict[str, Any]:
    hints = get_type_hints(config)
    return {field.name: hints[field.name] for field in fields(config)}


def given(name: str, value: object, kind: Any) -> Any:
    """The value of a setting as a type that :func:`as_kind` knows.

    Raises:
        InputError: the value is of another type; names the setting.
    """
    try:
        return as_kind(value, kind)
    except TypeError as error:
        if choices := choices_of(kind):
            remedy = f"use {', '.join(map(str, choices))}"
            raise InputError(setting(name, value), "is not a valid choice", remedy) from error
        what = described(kind) + (" or None" if NoneType in get_args(kind) else "")
        raise InputError(setting(name, value), "is of the wrong type", f"give {what}") from error


def choices_of(kind: Any) -> tuple[Any, ...]:
    """The choices of a Literal type, which may include None."""
    for part in (kind, *get_args(kind)):
        if get_origin(part) is Literal:
            return get_args(part)
    return ()


def whole_number(name: str, value: object, least: int, most: int = (1 << 31) - 1) -> int:
    """The value of a setting as a whole number of Python within bounds.

    Raises:
        InputError: the value is not an integer or out of bounds; names the setting.
    """
    number: int = given(name, value, int)
    require(name, number, least <= number <= most, f"from {least} to {most}")
    return number


def as_kind(value: Any, kind: Any) -> Any:
    """A value as an annotated type holds it.

    Args:
        value: value of any type.
        kind: bool, int, float, str, Path, a Literal, ``tuple[X, ...]``, another class,
            or a union of them. No bool is a number; a whole number is a float, a string a Path.

    Raises:
        TypeError: it is of another type.
    """
    if get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            with suppress(TypeError):
                return as_kind(value, one)
    elif get_origin(kind) is Literal:
        for choice in get_args(kind):
            with suppress(TypeError):
                if as_kind(value, type(choice)) == choice:
                    return choice
    elif get_origin(kind) is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(as_kind(one, get_args(kind)[0]) for one in value)
    elif kind is int:
        if isinstance(value, Integral) and not isinstance(value, bool):
            return int(value)
    elif kind is float:
        if isinstance(value, Real) and not isinstance(value, bool):
            # A whole number can be larger than any float.
            with suppress(OverflowError):
                return float(value)
    elif kind is Path:
        # Some texts can be the name of no file on any system.
        with suppress(ValueError):
            if b"\0" not in os.fsencode(value):
                return Path(value)
    elif kind is str:
        if isinstance(value, str):
            return str(value)
    elif kind is Any or isinstance(value, kind):
        return value
    raise TypeError(f"not {described(kind)}")


def described(kind: Any, words: Mapping[Any, str] = _WORDS) -> str:
    """A type in words, without None."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(described(one, words) for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"a list, each {described(get_args(kind)[0], words)}"
    return words.get(kind) or getattr(kind, "__name__", str(kind))
