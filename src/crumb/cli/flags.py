"""Configuration dataclasses as flags: words of a command line in, a configuration out."""

from __future__ import annotations

import ast
import difflib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from crumb.errors import InputError, flag_of
from crumb.kinds import UNSET, Argument, described

T = TypeVar("T")

HELP = ("-h", "--help", "--help-all")
_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "path": Path}
_NAMES = {kind: name for name, kind in _TYPES.items()}


@dataclass(frozen=True)
class Flag:
    """One field of a configuration on the command line. Plain values, so that JSON holds it.

    Attributes:
        name: of the field.
        type: int, float, str, bool or path: of each value.
        help: in one or more sentences.
        section: title of the group that help shows it in.
        many: takes any number of words.
        optional: None is a value.
        choices: the words that are allowed, where not all are.
        required: has no default.
        default: as help shows it.
        positional: is given by its place, not by a name.
        metavar: what stands for the value in help.
        alias: a short name, as ``-o``.
    """

    name: str
    type: str
    help: str = ""
    section: str = ""
    many: bool = False
    optional: bool = False
    choices: tuple[str, ...] = ()
    required: bool = False
    default: str = ""
    positional: bool = False
    metavar: str = ""
    alias: str = ""

    @property
    def word(self) -> str:
        """What it is called on the command line."""
        return self.metavar if self.positional else flag_of(self.name)


class HelpAsked(Exception):
    """Someone asked what a command takes.

    Attributes:
        program: the command.
        about: what it does.
        flags: all that it takes.
        all: whether all flags are wanted, not only those most people use.
    """

    def __init__(self, program: str, about: str, flags: Sequence[Flag], all_: bool) -> None:
        super().__init__(program)
        self.program, self.about, self.flags, self.all = program, about, tuple(flags), all_


def flags_of(kind: type, default: Any = None) -> list[Flag]:
    """The flags of a configuration, those of configurations inside it included.

    Args:
        kind: a dataclass. Docstrings below its fields are the help texts.
        default: an instance whose values are the defaults; :data:`UNSET` where there is none.
    """
    return [*_flags(kind, default, _title(kind))]


def _flags(kind: type, default: Any, section: str) -> Iterator[Flag]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if default is not None:
            value = getattr(default, field.name)
        elif field.default_factory is not MISSING:
            value = field.default_factory()
        else:
            value = UNSET if field.default is MISSING else field.default
        hint, argument = _plain(hints[field.name])
        if is_dataclass(hint):
            assert isinstance(hint, type)
            yield from _flags(hint, None if value is UNSET else value, _title(hint))
        elif not argument.hidden:
            text = _texts(kind).get(field.name, "")
            yield _flag(field.name, hint, argument, value, text, section)


def _flag(name: str, hint: Any, argument: Argument, value: Any, text: str, section: str) -> Flag:
    parts = get_args(hint)
    optional = NoneType in parts and get_origin(hint) is not Literal
    if optional:
        hint = next(part for part in parts if part is not NoneType)
    many = get_origin(hint) is tuple
    if many:
        hint = get_args(hint)[0]
    choices = tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()
    type_ = "str" if choices else _NAMES[hint]
    usual = name.upper() if argument.positional else type_.upper()
    metavar = argument.metavar or ("{" + ",".join(choices) + "}" if choices else usual)
    return Flag(
        name,
        type_,
        " ".join(text.split()),
        section,
        many,
        optional,
        choices,
        value is UNSET,
        _default_text(value),
        argument.positional,
        metavar,
        argument.alias,
    )


def _plain(hint: Any) -> tuple[Any, Argument]:
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        return kind, next((note for note in notes if isinstance(note, Argument)), Argument())
    return hint, Argument()


def _default_text(value: Any) -> str:
    if value is UNSET or value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _title(kind: type) -> str:
    return (kind.__doc__ or "").split("\n\n")[0].strip().rstrip(".")


def _texts(kind: type) -> dict[str, str]:
    """The docstrings below the fields of a dataclass and of those it extends, by field."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base) and base.__module__ in sys.modules:
            found |= _texts_in(base.__module__).get(base.__qualname__, {})
    return found


@cache
def _texts_in(module: str) -> dict[str, dict[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    return {
        node.name: {
            one.target.id: str(below.value.value)
            for one, below in zip(node.body, node.body[1:], strict=False)
            if isinstance(one, ast.AnnAssign)
            and isinstance(one.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        }
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def read(
    flags: Sequence[Flag], words: Sequence[str], program: str, about: str = ""
) -> dict[str, Any]:
    """The values that words give to flags, by field.

    Words that look like no flag are positional arguments, and so are all behind ``--``. A flag that
    is given twice has the last value.

    Raises:
        HelpAsked: a word asks for help.
        InputError: an unknown flag, a value that is missing or of another type, a word too many.
    """
    ahead = list(words)
    if asked := {*HELP} & {*ahead[: ahead.index("--") if "--" in ahead else None]}:
        raise HelpAsked(program, about, flags, "--help-all" in asked)
    known = _by_word(flags)
    values: dict[str, Any] = {}
    loose: list[str] = []
    while ahead:
        word = ahead.pop(0)
        if word == "--":
            loose += ahead
            break
        if not _is_flag(word):
            loose.append(word)
            continue
        head, equals, inline = word.partition("=")
        flag = known.get(_spelt(head))
        if flag is None:
            raise InputError(program, f"has no flag {head}{_meant(head, known)}", _see(program))
        given = [inline] if equals else []
        if flag.type == "bool":
            if equals:
                raise InputError(word, "takes no value", f"give {head} alone")
            values[flag.name] = not _spelt(head).startswith("--no-")
            continue
        while ahead and not _is_flag(ahead[0]) and not equals and (flag.many or not given):
            given.append(ahead.pop(0))
        if not given and not flag.many:
            raise InputError(head, "has no value", f"give {_wanted(flag)}")
        values[flag.name] = _value(flag, given, head)
    return values | _positional(flags, loose, program)


def _by_word(flags: Sequence[Flag]) -> dict[str, Flag]:
    known: dict[str, Flag] = {}
    for flag in flags:
        if not flag.positional:
            known[flag.word] = flag
            if flag.type == "bool":
                known[flag.word.replace("--", "--no-", 1)] = flag
        if flag.alias:
            known[flag.alias] = flag
    return known


def _is_flag(word: str) -> bool:
    if not word.startswith("-") or word == "-":
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def _spelt(head: str) -> str:
    return "--" + head[2:].replace("_", "-") if head.startswith("--") else head


def _meant(head: str, known: Mapping[str, Flag]) -> str:
    near = difflib.get_close_matches(head, known, 1, 0.7)
    return f" (did you mean {near[0]}?)" if near else ""


def _see(program: str) -> str:
    return f"see {program} --help"


def _value(flag: Flag, given: Sequence[str], where: str) -> Any:
    """The words behind one flag as its type."""
    if flag.many:
        return tuple(_one(flag, word, where) for word in given)
    return _one(flag, given[0], where)


def _one(flag: Flag, word: str, where: str) -> Any:
    if flag.optional and word == "None":
        return None
    if flag.choices:
        if word in flag.choices:
            return word
        near = difflib.get_close_matches(word, flag.choices, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"{where} {word}", f"no such choice{meant}", f"give {_wanted(flag)}")
    try:
        if "\0" in word:
            raise ValueError
        return _TYPES[flag.type](word)
    except ValueError as error:
        problem = "is of the wrong type"
        raise InputError(f"{where} {word}", problem, f"give {_wanted(flag)}") from error


def _wanted(flag: Flag) -> str:
    if flag.choices:
        return f"one of {', '.join(flag.choices)}"
    return described(_TYPES[flag.type])


def _positional(flags: Sequence[Flag], loose: list[str], program: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for flag in flags:
        if flag.positional and loose:
            count = len(loose) if flag.many else 1
            values[flag.name] = _value(flag, loose[:count], flag.word)
            loose = loose[count:]
    if loose:
        raise InputError(program, f"takes no further word {loose[0]!r}", _see(program))
    return values


def refuse_missing(flags: Sequence[Flag], values: Mapping[str, Any], program: str) -> None:
    """Refuse words that leave out what has no default.

    Raises:
        InputError: naming all that is missing.
    """
    if missing := [flag.word for flag in flags if flag.required and flag.name not in values]:
        verb = "is" if len(missing) == 1 else "are"
        raise InputError(program, f"{' and '.join(missing)} {verb} missing", _see(program))


def filled(kind: type[T], default: T | None, values: Mapping[str, Any]) -> T:
    """A configuration with the values that were given, by field, at any depth.

    Raises:
        InputError: a value cannot be.
    """
    hints = get_type_hints(kind)
    changes: dict[str, Any] = {}
    for field in fields(kind):  # pyright: ignore[reportArgumentType]
        hint = hints[field.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            inner = None if default is None else getattr(default, field.name)
            changes[field.name] = filled(hint, inner, values)
        elif field.name in values:
            changes[field.name] = values[field.name]
    return kind(**changes) if default is None else replace(default, **changes)  # pyright: ignore
