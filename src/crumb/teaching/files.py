"""Model files that a lesson replaces, and that can be brought back."""

from __future__ import annotations

import contextlib
from pathlib import Path

from crumb.errors import InputError
from crumb.files import short_name, write_bytes
from crumb.methods.base import Learner

UNDO = ".before"
"""What is added to the name of a model for the file as it was before the last lesson."""
_REMEDY = "make its folder writable or free space"


def former(model: Path) -> Path:
    """Where a model lies as it was before its last lesson."""
    # With what is added while it is written, a name may have 255 bytes.
    return model.with_name(short_name(model.name, 240) + UNDO)


def replace_model(learner: Learner, model: Path) -> None:
    """Write a learner over its file; the file as it was stays beside it.

    Raises:
        InputError: nothing can be written there; the model is as it was.
    """
    before = former(model)
    ready = before.with_name(before.name + ".new")
    try:
        write_bytes(ready, model.read_bytes(), _REMEDY)
        learner.save(model)
        ready.replace(before)
    except OSError as error:
        raise InputError(before, f"cannot be written ({error.strerror})", _REMEDY) from error
    finally:
        with contextlib.suppress(OSError):
            ready.unlink()


def undo(model: Path) -> None:
    """Bring a model back as it was before its last lesson.

    Raises:
        InputError: there was no lesson, or the last one was taken back, or nothing can be written.
    """
    if not model.exists():
        raise InputError(model, "no such file", "name a model that was taught something")
    if not former(model).exists():
        raise InputError(model, "has no lesson to take back", "teach it something first")
    try:
        former(model).replace(model)
    except OSError as error:
        raise InputError(model, f"cannot be written ({error.strerror})", _REMEDY) from error
