"""Model files that a lesson replaces, with undo.

The previous model is kept next to the new one, in a file whose name holds a digest of the new one.
So it belongs to that model only. It is written first, and then the model is replaced atomically, so
a killed process leaves a consistent pair.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path

from crumb.errors import InputError
from crumb.files import followed, is_folder, short_name, write_bytes
from crumb.locks import locked
from crumb.methods.base import Learner
from crumb.methods.exporting import write_state
from crumb.portable import STATE

UNDO = ".before-"
"""Between the name of a model and a digest of it in the name of what it was before its lesson."""
_REMEDY = "make its folder writable or free space"


@contextlib.contextmanager
def held(model: Path) -> Iterator[Path]:
    """Lock a model file against other lessons; waits until another one ends.

    Args:
        model: model of which a lesson loads, changes and replaces the file. There need be none.

    Returns:
        the file itself, where ``model`` is a link to it.
    """
    file = followed(model)
    with locked(file / STATE if is_folder(file) else file):
        yield file


def former(model: Path) -> Path | None:
    """Path of the model before its last lesson; None if it cannot be undone."""
    file = followed(model)
    if is_folder(file):
        return None
    before = _before(file, file.read_bytes())
    return before if before.is_file() else None


def replace_model(learner: Learner, model: Path) -> None:
    """Write a learner over the file of a model that is :func:`held`; keep the file as it was.

    Of a folder that ``crumb export`` wrote, the state is replaced, and nothing is kept.

    Raises:
        InputError: nothing can be written there; the model is as it was, and so is what its last
            lesson is taken back with.
    """
    if is_folder(model):
        write_state(learner, model)
        return
    new = model.with_name(f".{short_name(model.name)}.new")
    written: Path | None = None
    try:
        old = model.read_bytes()
        outdated = _before(model, old)
        learner.save(new)
        before = _before(model, new.read_bytes())
        for path in model.parent.glob(
            f"{glob.escape(short_name(model.name))}{UNDO}{'[0-9a-f]' * 16}"
        ):
            # Of a model that is no longer there.
            if path not in (outdated, before):
                path.unlink()
        if before != outdated:
            written = before
            write_bytes(before, old, _REMEDY)
        new.replace(model)
        written = None
        if before != outdated:
            outdated.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(model, f"cannot be written ({error.strerror})", _REMEDY) from error
    finally:
        for path in (new, written):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink()


def undo(model: Path) -> None:
    """Undo the last lesson of a model.

    Raises:
        InputError: there was no lesson, it was already undone, the model was rewritten since, or
            the folder is not writable.
    """
    with held(model) as file:
        try:
            if (before := former(file)) is None:
                raise InputError(model, "has no lesson to undo", "teach it something first")
            before.replace(file)
        except FileNotFoundError as error:
            remedy = "name a model that was taught something"
            raise InputError(model, "no such file", remedy) from error
        except OSError as error:
            raise InputError(model, f"cannot be changed ({error.strerror})", _REMEDY) from error


def _before(model: Path, content: bytes) -> Path:
    """Path of the undo file for a model with this content."""
    mark = hashlib.sha256(content).hexdigest()[:16]
    return model.with_name(f"{short_name(model.name)}{UNDO}{mark}")
