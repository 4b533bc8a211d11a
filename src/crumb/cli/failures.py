"""Any failure as one line: what it is about, what is wrong, what to do."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from crumb.errors import InputError

# What torch and the system say when there is no memory left; torch has a type for a GPU's only.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate")
_SMALLER = (
    "give a smaller --batch-size, --test-batch-size, --workers or memory, or --feature-cache disk"
)


def take_debug(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether ``--debug`` is among the words, and the words without it."""
    rest = [word for word in words if word != "--debug"]
    return len(rest) < len(words), rest


def explain(error: Exception, words: Sequence[str]) -> InputError:
    """The one line that a failure ends in.

    Args:
        error: anything; an InputError is its own explanation.
        words: of the command.
    """
    if isinstance(error, InputError):
        return error
    command = " ".join(["crumb", *words[:1]])
    text = " ".join(str(error).split()) or "no more is said"
    said = text.lower()
    if isinstance(error, MemoryError) or any(part in said for part in _NO_MEMORY):
        return InputError(command, f"ran out of memory ({_short(text)})", _SMALLER)
    if isinstance(error, OSError) and error.strerror:
        where = error.filename or command
        return InputError(where, f"failed ({error.strerror})", "repair it, then call again")
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return InputError(
        command,
        f"failed in a way that was not foreseen{place} ({type(error).__name__}: {_short(text)})",
        "call it again with --debug and report what it prints; what was finished is kept",
    )


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."
