"""The exception for user errors, and helpers that raise it."""

from __future__ import annotations

import difflib
import re
import reprlib
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePath

_ALONE = object()
# A setting inside a message: as Python writes it, then as the command line does.
_MARKED = re.compile("\x02(.*?)\x03(.*?)\x04", re.DOTALL)
_NO_MARKS: dict[int, None] = dict.fromkeys((2, 3, 4))


class InputError(Exception):
    """An input of the user cannot be used.

    The message is one line: what was given (file or setting), what is wrong with it, what to do.
    Python callers read settings as they wrote them (``batch_size=-1``). The command line prints
    :meth:`in_flags` (``--batch-size -1``) and leaves with exit code 2.

    Attributes:
        parts: subject, problem and remedy, in which :func:`setting` marks settings.
        setting: name of the setting that cannot be used, or None where it is something else.
    """

    def __init__(self, subject: object, problem: str, remedy: str) -> None:
        self.parts = (str(subject), problem, remedy)
        named = _MARKED.match(self.parts[0])
        self.setting = named[1].partition("=")[0] if named else None
        super().__init__(self._line(1))

    def in_flags(self) -> str:
        """The line with settings as flags of the command line."""
        return self._line(2)

    def problem_in_flags(self) -> str:
        """The problem alone, with settings as flags, for tables and lists."""
        return printable(self._text(self.parts[1], 2))

    def _line(self, form: int) -> str:
        subject, problem, remedy = (self._text(part, form) for part in self.parts)
        return printable(f"{subject}: {problem}; {remedy}")

    def _text(self, part: str, form: int) -> str:
        return " ".join(_MARKED.sub(lambda found: found[form], part).split())

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        # Worker processes hand their errors over as pickles in memory.
        return InputError, self.parts


@contextmanager
def about(file: object) -> Iterator[None]:
    """Context in which an InputError also names a file: ``FILE, subject: problem; remedy``.

    Args:
        file: the file that the error is about.
    """
    try:
        yield
    except InputError as error:
        subject, problem, remedy = error.parts
        raise InputError(f"{file}, {subject}", problem, remedy) from error


class DivergedError(InputError):
    """A loss or a weight is no longer finite: the settings ask for steps that are too large.

    Attributes:
        run: number of the run.
    """

    run: int = -1


class Terminated(BaseException):
    """A signal that ends the program, raised so that files are closed and records written.

    Attributes:
        number: number of the signal (SIGTERM, SIGHUP, ...).
    """

    def __init__(self, *words: str, number: int = signal.SIGTERM) -> None:
        super().__init__(*words)
        self.number = number


def printable(text: object) -> str:
    """Make text printable: file names may hold bytes that are not valid text."""
    return str(text).encode(errors="backslashreplace").decode()


def setting(name: str, value: object = _ALONE) -> str:
    """A setting, for any part of an :class:`InputError`, which knows two ways to write it.

    ``setting("memory_size", 3)`` is ``memory_size=3`` to a Python caller and ``--memory-size 3``
    on the command line; ``setting("cut")`` is ``cut`` and ``--cut``.

    Args:
        name: name of the field or argument.
        value: the value that it has, or should have.
    """
    flag = flag_of(name)
    if value is _ALONE:
        return f"\x02{name}\x03{flag}\x04"
    if isinstance(value, bool):
        words = flag if value else flag.replace("--", "--no-", 1)
    else:
        several = isinstance(value, (tuple, list))
        words = f"{flag} {_text(value, _joined if several else str)}"
    return f"\x02{name}={shown(value)}\x03{words}\x04"


def shown(value: object) -> str:
    """A value as Python writes it, cut where it is long; a path as a string."""
    return _text(str(value) if isinstance(value, PurePath) else value, _BRIEF.repr)


def _text(value: object, write: Callable[[object], str]) -> str:
    try:
        return write(value).translate(_NO_MARKS)
    # A value that is refused can be any object, and an integer can have too many digits to print.
    except Exception:
        return f"<{type(value).__name__}>"


def _joined(values: object) -> str:
    assert isinstance(values, (tuple, list))
    return " ".join(map(str, values))


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 200


def flag_of(setting: str) -> str:
    """The flag that sets a field of a configuration: ``--memory-size`` of ``memory_size``."""
    return "--" + setting.replace("_", "-")


def require(name: str, value: float, holds: bool, range_: str) -> None:
    """Refuse a setting that is out of range, infinite or not a number.

    Raises:
        InputError: the value is out of range; names the setting and the range.
    """
    if not holds or abs(value) == float("inf"):
        raise InputError(setting(name, value), "is out of range", f"give a finite number {range_}")


def meant(word: str, known: Iterable[str]) -> str:
    """The known name that is nearest to a misspelt one: `` (did you mean er?)``, or nothing."""
    near = difflib.get_close_matches(word, [*known], 1, 0.6)
    return f" (did you mean {near[0]}?)" if near else ""
