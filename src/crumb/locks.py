"""Locks of files and folders, against other processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from crumb.files import file_size

_WAIT = 0.1
"""Seconds until a lock of another process is tried again."""


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder; False if another process has. It is freed when it is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks.
        pass
    return True


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While no other process is in this context for the same folder; waits until it is over.

    Where there is no such folder, nobody has anything to write there.
    """
    if not folder.is_dir():
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        while not try_lock(descriptor):
            time.sleep(_WAIT)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """While no other process is in this context for the same file; waits until it is over.

    The file may be replaced meanwhile. Where there is none, nobody has anything to read there.
    """
    descriptor = _lock_of(path)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock_of(path: Path) -> int | None:
    """The file, opened and locked; None where it cannot be opened."""
    while True:
        try:
            file_size(path)
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            while not try_lock(descriptor):
                time.sleep(_WAIT)
            # The process that held the lock may have replaced this file.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
