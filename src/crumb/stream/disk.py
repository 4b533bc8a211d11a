"""Tensors that cost much to compute, kept in files for other processes and later ones.

A folder of rows holds files of at most 32 MB or one row. Each is a safetensors file with ``keys``
(uint8 [n, 16]), ``rows`` ([n, *row_shape]) and, in its header, the format version and the SHA-256
of keys and rows. A file appears whole or not at all and is never changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from weakref import WeakSet

import torch
from torch import Tensor

from crumb.errors import InputError
from crumb.files import read_tensors, write_json, write_tensors
from crumb.stream.rows import row_bytes

FORMAT, VERSION = "crumb-rows", 1
REMEDY = "free space, give another --feature-cache-folder, or --feature-cache memory"
# What a killed process has to compute again.
_FILE_BYTES = 32 << 20
# Header and keys of a file of one row, at most.
_OVERHEAD = 1024
_POLL_SECONDS = 0.2
# All of this process, so that none removes the files of another.
_IN_USE: WeakSet[DiskRows] = WeakSet()


@dataclass(frozen=True)
class _Place:
    """Where a row lies."""

    file: Path
    offset: int


class DiskRows:
    """Rows in a folder that several processes may use at once.

    A file is checked against its checksum before this process uses it, and removed if it is
    damaged. While one process fills the folder, others that miss rows wait, and then use its
    work; if it is killed, they and later ones use what it finished. Files may be removed at any
    time, by anyone: a row that cannot be read is computed again by whoever asked for it.

    Rows are read by position rather than mapped: mapped pages count as memory of the process, and
    a process that reads a mapped file which somebody cuts short is killed.

    Args:
        folder: of these rows. Folders of other rows lie beside it and share the budget: the files
            that this process does not use are removed when it is exceeded, those first that were
            not used for longest.
        about: what the rows are, for people who look into the folder.
        row_shape: of one row.
        dtype: of one row.
        budget: bytes of the files in all folders together.

    Attributes:
        capacity: rows that fit into the budget.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, object],
        row_shape: Sequence[int],
        dtype: torch.dtype,
        budget: int,
    ) -> None:
        self._folder = folder
        self._shape, self._dtype = tuple(row_shape), dtype
        self._row_bytes = row_bytes(row_shape, dtype)
        self._budget = budget
        self._places: dict[bytes, _Place] = {}
        self._unwritten: list[tuple[Sequence[bytes], Tensor]] = []
        self.capacity = budget // (self._row_bytes + _OVERHEAD)
        _IN_USE.add(self)
        if not (folder / "about.json").exists():
            description = {"format": FORMAT, "version": VERSION, **about}
            write_json(folder / "about.json", description, REMEDY)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    @contextmanager
    def filling(self, keys: Sequence[bytes]) -> Iterator[None]:
        """Take over what is there; if that is not all, fill the rest, alone."""
        self._take_over(keys)
        if all(key in self._places for key in keys):
            yield
            return
        with self._lock():
            # Whoever held the lock before may have filled the folder meanwhile.
            self._take_over(keys)
            # What a process left that was killed while it wrote.
            for leftover in self._folder.glob(".*.safetensors.*"):
                leftover.unlink(missing_ok=True)
            self._make_room(sum(key not in self._places for key in keys))
            try:
                yield
            finally:
                self._write()

    def add(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Keep rows; those of a file that is not full yet can be read after the filling."""
        self._unwritten.append((keys, rows))
        if sum(rows.nbytes for _, rows in self._unwritten) + rows.nbytes > _FILE_BYTES:
            self._write()

    def read(self, keys: Sequence[bytes]) -> tuple[Tensor, list[int]]:
        """The rows, and the positions of those whose file is gone or was cut short."""
        rows = torch.empty((len(keys), *self._shape), dtype=self._dtype)
        target = _bytes_of(rows)
        opened: dict[Path, FileIO | None] = {}
        unread = []
        try:
            for number, key in enumerate(keys):
                place = self._places[key]
                if place.file not in opened:
                    opened[place.file] = _open(place.file)
                file, start = opened[place.file], number * self._row_bytes
                row = target[start : start + self._row_bytes]
                if file is None or not _read_at(file, place.offset, row):
                    unread.append(number)
        finally:
            for file in opened.values():
                if file is not None:
                    file.close()
        return rows, unread

    def _take_over(self, keys: Sequence[bytes]) -> None:
        """Check and register the files that hold rows of ``keys``."""
        missing = set(keys) - self._places.keys()
        known = {place.file for place in self._places.values()}
        files = [file for file in self._folder.glob("*.safetensors") if file not in known]
        if not missing or not files:
            return
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for places in pool.map(lambda file: self._check(file, missing), files):
                self._places |= places

    def _check(self, file: Path, wanted: set[bytes]) -> dict[bytes, _Place]:
        """The places of the rows in a file; none if no row is wanted or the file is damaged."""
        try:
            tensors, meta = read_tensors(file, REMEDY)
            packed, rows = tensors["keys"], tensors["rows"]
            keys = [bytes(key) for key in packed.numpy()]
            if wanted.isdisjoint(keys):
                return {}
            fits = rows.shape[1:] == self._shape and rows.dtype == self._dtype
            whole = json.loads(meta[FORMAT]) == _seal(packed, rows)
            if fits and whole and len(rows) == len(keys):
                start = _offset_of_rows(file)
                # The folder may be somebody else's, to be read only.
                with suppress(OSError):
                    os.utime(file)
                return {k: _Place(file, start + n * self._row_bytes) for n, k in enumerate(keys)}
        # Whatever is wrong with the file, its rows are computed again.
        except (InputError, OSError, LookupError, TypeError, ValueError):
            pass
        with suppress(OSError):
            file.unlink()
        return {}

    def _write(self) -> None:
        if not self._unwritten:
            return
        keys = b"".join(key for part, _ in self._unwritten for key in part)
        rows = torch.cat([rows for _, rows in self._unwritten])
        self._unwritten.clear()
        packed = torch.frombuffer(bytearray(keys), dtype=torch.uint8).view(-1, 16)
        file = self._folder / f"{hashlib.sha256(keys).hexdigest()[:16]}.safetensors"
        seal = {FORMAT: json.dumps(_seal(packed, rows))}
        write_tensors(file, {"keys": packed, "rows": rows}, seal, REMEDY)
        start = _offset_of_rows(file)
        for number in range(len(rows)):
            key = keys[16 * number : 16 * (number + 1)]
            self._places[key] = _Place(file, start + number * self._row_bytes)

    def _make_room(self, rows: int) -> None:
        """Remove the files that were not used for longest until ``rows`` more fit the budget."""
        used = {place.file for one in _IN_USE for place in one._places.values()}
        others: list[tuple[float, int, Path]] = []
        total = rows * (self._row_bytes + _OVERHEAD)
        for file in self._folder.parent.glob("*/*.safetensors"):
            with suppress(FileNotFoundError):
                found = file.stat()
                total += found.st_size
                if file not in used:
                    others.append((found.st_mtime, found.st_size, file))
        for _, size, file in sorted(others):
            if total <= self._budget:
                return
            file.unlink(missing_ok=True)
            total -= size

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other processes from filling the folder; the system frees it when we are killed."""
        try:
            file = (self._folder / "lock").open("w")
        except OSError as error:
            raise InputError(
                self._folder, f"cannot be written ({error.strerror})", REMEDY
            ) from error
        with file:
            announced = False
            while not _try_lock(file.fileno()):
                if not announced and sys.stderr.isatty():
                    sys.stderr.write(f"waiting for another process that fills {self._folder}\n")
                announced = True
                time.sleep(_POLL_SECONDS)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks: at worst two processes compute the same rows.
        pass
    return True


def _open(file: Path) -> FileIO | None:
    try:
        return FileIO(file)
    except OSError:
        return None


def _read_at(file: FileIO, offset: int, target: memoryview) -> bool:
    """Whether all of ``target`` could be read from there."""
    try:
        file.seek(offset)
        return file.readinto(target) == len(target)
    except OSError:
        return False


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.view(-1).view(torch.uint8).numpy().data


def _seal(keys: Tensor, rows: Tensor) -> dict[str, object]:
    """What the header must say for the file to be trusted."""
    digest = hashlib.sha256()
    for tensor in (keys, rows):
        digest.update(_bytes_of(tensor.contiguous()))
    return {"version": VERSION, "sha256": digest.hexdigest()}


def _offset_of_rows(file: Path) -> int:
    """Where the rows begin: after eight bytes with the length of the header, and the header."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        return 8 + length + json.loads(opened.read(length))["rows"]["data_offsets"][0]
