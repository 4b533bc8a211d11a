"""Report any failure as one line: subject, problem and remedy."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from crumb.errors import InputError

# Messages of torch and the system when memory runs out. torch has an exception type only for GPU
# memory.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate")
_SMALLER = (
    "give a smaller --batch-size, --test-batch-size, --workers or memory, or --feature-cache disk"
)


def take_debug(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether ``--debug`` was given, and the words without it."""
    rest = [word for word in words if word != "--debug"]
    return len(rest) < len(words), rest


def explain(error: Exception, words: Sequence[str]) -> InputError:
    """The line that reports a failure.

    Args:
        error: any exception; an InputError is printed as it is.
        words: words of the command.
    """
    if isinstance(error, InputError):
        return error
    command = " ".join(["crumb", *words[:1]])
    text = " ".join(str(error).split()) or "no details"
    said = text.lower()
    if isinstance(error, MemoryError) or any(part in said for part in _NO_MEMORY):
        return InputError(command, f"ran out of memory ({_short(text)})", _SMALLER)
    if isinstance(error, OSError) and error.strerror:
        where = error.filename or command
        return InputError(where, f"failed ({error.strerror})", "fix the cause, then call again")
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return InputError(
        command,
        f"unexpected error{place} ({type(error).__name__}: {_short(text)})",
        "call it again with --debug and report the output; finished work is kept",
    )


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."
