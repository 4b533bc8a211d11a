"""Configuration dataclasses as flags: words of a command line in, a configuration out."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from crumb.errors import InputError, flag_of, meant
from crumb.kinds import UNSET, Argument, described

T = TypeVar("T")

HELP = ("-h", "--help", "--help-all")
METHOD_SETTINGS = "settings of the method"
"""Section of the flags that depend on the method."""
_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "path": Path}
_NAMES = {kind: name for name, kind in _TYPES.items()}


@dataclass(frozen=True)
class Flag:
    """One field of a configuration on the command line, in plain values that fit into JSON.

    Attributes:
        name: name of the field.
        type: type of each value: int, float, str, bool or path.
        help: help text.
        section: title of its group in the help.
        many: whether it takes several words.
        optional: whether None is a value.
        choices: the allowed words, if not all are allowed.
        required: whether it has no default.
        default: the default as the help shows it.
        positional: whether it is positional.
        metavar: placeholder of the value in the help.
        alias: short name, such as ``-o``.
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
        """Its name on the command line."""
        return self.metavar if self.positional else flag_of(self.name)


class HelpAsked(Exception):
    """The user asked for the help of a command.

    Attributes:
        program: the command.
        about: what it does.
        flags: all its flags.
        all: whether to show all flags instead of the most used ones.
    """

    def __init__(self, program: str, about: str, flags: Sequence[Flag], all_: bool) -> None:
        super().__init__(program)
        self.program, self.about, self.flags, self.all = program, about, tuple(flags), all_


def flags_of(kind: type, default: Any = None, section: str = "") -> list[Flag]:
    """The flags of a configuration, including nested configurations.

    Args:
        kind: a dataclass. Docstrings below its fields are the help texts.
        default: an instance that holds the defaults. Its :data:`UNSET` fields are required.
        section: title of the group in the help; by default from the docstring of the dataclass.

    Raises:
        InputError: a field has a type that a flag cannot have.
    """
    return [*_flags(kind, default, section or _title(kind))]


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
            try:
                yield _flag(field.name, hint, argument, value, text, section)
            except KeyError as error:
                problem = f"has a type that a flag cannot have ({hint})"
                remedy = "use bool, int, float, str, Path, a Literal, or a tuple of one of them"
                raise InputError(f"{kind.__name__}.{field.name}", problem, remedy) from error


def _flag(name: str, hint: Any, argument: Argument, value: Any, text: str, section: str) -> Flag:
    parts = get_args(hint)
    optional = NoneType in parts and get_origin(hint) is not Literal
    if optional:
        hint = next(part for part in parts if part is not NoneType)
    many = get_origin(hint) is tuple
    if many:
        hint = get_args(hint)[0]
    values = get_args(hint) if get_origin(hint) is Literal else ()
    choices = tuple(map(str, values))
    type_ = _NAMES[type(values[0]) if values else hint]
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
        argument.default or _default_text(value),
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
            found |= _texts_in(base.__module__).get(base.__qualname__.rpartition(">.")[2], {})
    return found


@cache
def _texts_in(module: str) -> dict[str, dict[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    return dict(_classes(tree, ""))


def _classes(tree: ast.AST, prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The docstrings below fields, by qualified name of the class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield (
                f"{prefix}{node.name}",
                {
                    one.target.id: str(below.value.value)
                    for one, below in zip(node.body, node.body[1:], strict=False)
                    if isinstance(one, ast.AnnAssign)
                    and isinstance(one.target, ast.Name)
                    and isinstance(below, ast.Expr)
                    and isinstance(below.value, ast.Constant)
                },
            )
            yield from _classes(node, f"{prefix}{node.name}.")
        else:
            yield from _classes(node, prefix)


def read(
    flags: Sequence[Flag], words: Sequence[str], program: str, about: str = ""
) -> dict[str, Any]:
    """Read the values of flags, by field.

    Words that do not look like flags are positional arguments. So are all words after ``--``. If a
    flag is given twice, the last value counts.

    Raises:
        HelpAsked: a word asks for help.
        InputError: an unknown flag, a missing value, a value of another type, an unexpected word.
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
            raise InputError(program, f"has no flag {head}{meant(head, known)}", _see(program))
        given = [inline] if equals else []
        if flag.type == "bool":
            if equals:
                raise InputError(word, "takes no value", f"give {head} alone")
            values[flag.name] = not _spelt(head).startswith("--no-")
            continue
        while ahead and not _is_flag(ahead[0]) and not equals and (flag.many or not given):
            given.append(ahead.pop(0))
        # No classes at all would mean all classes.
        if not any(given):
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
    if flag.choices and word not in flag.choices:
        problem = f"no such choice{meant(word, flag.choices)}"
        raise InputError(f"{where} {word}", problem, f"give {_wanted(flag)}")
    try:
        if not word or "\0" in word:
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
        raise InputError(program, f"unexpected argument {loose[0]!r}", _see(program))
    return values


def refuse_missing(flags: Sequence[Flag], values: Mapping[str, Any], program: str) -> None:
    """Refuse to go on without the values of required flags.

    Raises:
        InputError: names all that are missing.
    """
    if missing := [flag.word for flag in flags if flag.required and flag.name not in values]:
        verb = "is" if len(missing) == 1 else "are"
        raise InputError(program, f"{' and '.join(missing)} {verb} missing", _see(program))


def filled(kind: type[T], default: T | None, values: Mapping[str, Any]) -> T:
    """A configuration with the given values, by field, at any depth.

    Raises:
        InputError: a value is invalid.
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
