"""The one exception a user is meant to see, and the check that raises it most often."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one line: what was given (file or flag), what is wrong with it, what to do.
    The command line prints it and leaves with exit code 2; library callers catch it as usual.

    Attributes:
        parts: the three of them.
    """

    def __init__(self, subject: object, problem: str, remedy: str) -> None:
        self.parts = (str(subject), problem, remedy)
        parts = [" ".join(str(part).split()) for part in (subject, problem, remedy)]
        line = f"{parts[0]}: {parts[1]}; {parts[2]}"
        super().__init__(printable(line))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        # Worker processes hand their errors over as pickles in memory.
        return InputError, self.parts


class DivergedError(InputError):
    """A loss or a weight is no longer finite: the settings ask for steps that are too large."""


class Terminated(BaseException):
    """SIGTERM, raised where the program stands so that files are closed and records written."""


def printable(text: object) -> str:
    """A text that every terminal and file takes: names of files may hold bytes that are none."""
    return str(text).encode(errors="backslashreplace").decode()


def flag_of(setting: str) -> str:
    """The flag that sets a field of a configuration: ``--memory-size`` of ``memory_size``."""
    return "--" + setting.replace("_", "-")


def require(flag: str, value: float, holds: bool, range_: str) -> None:
    """Refuse a setting that is out of range, infinite or not a number.

    Raises:
        InputError: naming the flag and the range.
    """
    if not holds or abs(value) == float("inf"):
        raise InputError(f"{flag} {value}", "is out of range", f"give a finite number {range_}")
