"""Cache expensive tensors in files, for other processes and later runs.

A folder of rows holds files of at most 32 MB, or of one row. Each is a safetensors file with
``keys`` (uint8 [n, 16]) and ``rows`` ([n, *row_shape]). Its header holds the format version and the
SHA-256 of keys and rows. Files are written atomically and never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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

from crumb.device import cores
from crumb.errors import InputError, setting
from crumb.features.rows import row_bytes
from crumb.files import (
    bytes_of,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from crumb.locks import try_lock
from crumb.progress import announce

FORMAT, VERSION = "crumb-rows", 1
REMEDY = (
    f"free space, give another {setting('feature_cache_folder')}, or "
    f"{setting('feature_cache', 'memory')}"
)
# A killed process loses at most this.
_FILE_BYTES = 32 << 20
# Maximum bytes of header and keys in a file of one row.
_OVERHEAD = 1024
_ABOUT = "about.json"
_POLL_SECONDS = 0.2
_HOUR = 3600
# All instances of this process, so that none removes files of another.
_IN_USE: WeakSet[DiskRows] = WeakSet()


class CacheError(InputError):
    """The cache cannot be written. This is not an error of the images."""


@dataclass(frozen=True)
class _RowLocation:
    """Location of a row."""

    file: Path
    offset: int


class DiskRows:
    """Rows in a folder that several processes may use at the same time.

    The checksum of a file is verified before its first use, and damaged files are removed. While
    one process fills the folder, other processes that need missing rows wait and then use its rows.
    If it is killed, the files that it finished stay usable. Files may be removed at any time: rows
    that cannot be read are computed again.

    Rows are read by position and not memory-mapped. Mapped pages count as memory of the process,
    and a process is killed if it reads a mapped file that was truncated.

    Args:
        folder: folder of these rows. Folders of other rows lie beside it and share the budget. If
            the budget would be exceeded, files that this process does not use are removed, the
            least recently used ones first. Two processes that fill different folders may together
            exceed it while they run.
        about: description of the rows, for people who look into the folder.
        row_shape: shape of one row.
        dtype: dtype of one row.
        budget: maximum bytes of the files in all folders together.

    Raises:
        CacheError: the folder cannot be written.
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
        self._places: dict[bytes, _RowLocation] = {}
        self._unwritten: list[tuple[Sequence[bytes], Tensor]] = []
        _IN_USE.add(self)
        try:
            if not (folder / _ABOUT).exists():
                description = {"format": FORMAT, "version": VERSION, **about}
                write_json(folder / _ABOUT, description, REMEDY)
        except OSError as error:
            raise _cannot_write(folder, error) from error
        except InputError as error:
            raise CacheError(*error.parts) from error

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    @contextmanager
    def filling(self, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
        """A context for adding the missing rows that the budget allows. It yields their keys.

        Raises:
            CacheError: the folder cannot be written, or the disk is full.
        """
        missing = self._take_over(keys)
        if not missing:
            yield []
            return
        with self._lock():
            # The previous holder of the lock may have filled the folder.
            missing = self._take_over(keys)
            self._remove_leftovers()
            room = self._budget - sum(size for _, size, _ in self._files(used=True))
            missing = missing[: max(0, room // (self._row_bytes + _OVERHEAD))]
            self._make_room(len(missing) * (self._row_bytes + _OVERHEAD))
            try:
                yield missing
            except BaseException:
                # Report the first error, not that the last rows cannot be written after it.
                with suppress(CacheError):
                    self._write()
                raise
            else:
                self._write()
            finally:
                with suppress(CacheError):
                    self._make_room(0)

    def add(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Add rows. Rows in an incomplete file can be read only after the context."""
        self._unwritten.append((keys, rows))
        if sum(rows.nbytes for _, rows in self._unwritten) + rows.nbytes > _FILE_BYTES:
            self._write()

    def read(self, keys: Sequence[bytes]) -> tuple[Tensor, list[int]]:
        """Read rows. Also returns the positions of rows whose file is gone or truncated."""
        rows = torch.empty((len(keys), *self._shape), dtype=self._dtype)
        target = bytes_of(rows)
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

    def _take_over(self, keys: Sequence[bytes]) -> list[bytes]:
        """Check and register the files with rows of ``keys``. Returns the missing keys."""
        known = {place.file for place in self._places.values()}
        wanted = set(keys) - self._places.keys()
        if wanted:
            files = [file for file in self._folder.glob("*.safetensors") if file not in known]
            with ThreadPoolExecutor(cores()) as pool:
                for places in pool.map(lambda file: self._check(file, wanted), files):
                    self._places |= places
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def _check(self, file: Path, wanted: set[bytes]) -> dict[bytes, _RowLocation]:
        """Locations of the rows in a file; empty if no row is needed or the file is damaged."""
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
                # The folder may belong to another user and be read-only.
                with suppress(OSError):
                    os.utime(file)
                return {
                    k: _RowLocation(file, start + n * self._row_bytes) for n, k in enumerate(keys)
                }
        except (InputError, OSError) as error:
            if isinstance(error.__cause__ or error, OSError):
                # A read error does not mean that the contents are damaged.
                return {}
        # If the file is damaged in any other way, its rows are computed again.
        except (LookupError, TypeError, ValueError, RuntimeError):
            pass
        _remove(file)
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
        try:
            write_tensors(file, {"keys": packed, "rows": rows}, seal, REMEDY)
        except InputError as error:
            raise CacheError(*error.parts) from error
        try:
            start = _offset_of_rows(file)
        except FileNotFoundError:
            # The folder was cleared. Rows that are not kept are computed when they are needed.
            return
        for number in range(len(rows)):
            key = keys[16 * number : 16 * (number + 1)]
            self._places[key] = _RowLocation(file, start + number * self._row_bytes)

    def _remove_leftovers(self) -> None:
        """Remove temporary files of killed processes, at least an hour old."""
        for file in self._folder.glob(".*.safetensors.*.part"):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > _HOUR:
                    file.unlink()

    def _files(self, used: bool) -> list[tuple[float, int, Path]]:
        """Time of last use, bytes and path of the files that this process uses, or of all other
        files.

        Searches all folders of rows that share the budget, and ignores other files there.
        """
        in_use = {place.file for one in _IN_USE for place in one._places.values()}
        found = []
        for about in self._folder.parent.glob(f"*/{_ABOUT}"):
            if not _is_ours(about):
                continue
            for file in about.parent.glob("*.safetensors"):
                with suppress(OSError):
                    if (file in in_use) == used:
                        found.append((file.stat().st_mtime, file.stat().st_size, file))
        return found

    def _make_room(self, wanted: int) -> None:
        """Remove the least recently used files until ``wanted`` more bytes fit.

        Raises:
            CacheError: they do not fit on the disk.
        """
        others = sorted(self._files(used=False))
        total = wanted + sum(size for _, size, _ in [*others, *self._files(used=True)])
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise _cannot_write(self._folder, error) from error
        for _, size, file in others:
            if total <= self._budget and wanted <= free:
                return
            if _remove(file):
                total, free = total - size, free + size
        if wanted > free:
            raise CacheError(self._folder, f"{free:,} bytes free, {wanted:,} needed", REMEDY)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Lock the folder against other processes; the system unlocks it if this one is killed."""
        try:
            file = (self._folder / "lock").open("w")
        except OSError as error:
            raise _cannot_write(self._folder, error) from error
        with file:
            announced = False
            while not try_lock(file.fileno()):
                if not announced:
                    announce(f"waiting for another process to fill {self._folder}")
                announced = True
                time.sleep(_POLL_SECONDS)
            yield


def _cannot_write(folder: Path, error: OSError) -> CacheError:
    return CacheError(folder, f"cannot be written ({error.strerror})", REMEDY)


def _is_ours(about: Path) -> bool:
    try:
        return read_json(about, REMEDY).get("format") == FORMAT
    except InputError:
        return False


def _remove(file: Path) -> bool:
    """Remove a file. Returns whether it is gone: it may belong to another user."""
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _open(file: Path) -> FileIO | None:
    try:
        return FileIO(file)
    except OSError:
        return None


def _read_at(file: FileIO, offset: int, target: memoryview) -> bool:
    """Fill ``target`` from a position of a file. Returns whether all bytes were read."""
    try:
        file.seek(offset)
        return file.readinto(target) == len(target)
    except OSError:
        return False


def _seal(keys: Tensor, rows: Tensor) -> dict[str, object]:
    """Header entries that a valid file must have."""
    digest = hashlib.sha256()
    for tensor in (keys, rows):
        digest.update(bytes_of(tensor.contiguous()))
    return {"version": VERSION, "sha256": digest.hexdigest()}


def _offset_of_rows(file: Path) -> int:
    """Offset of the rows: they follow the header and eight bytes with its length."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        return 8 + length + json.loads(opened.read(length))["rows"]["data_offsets"][0]
