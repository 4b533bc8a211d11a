"""Read images inside tar files, so that a data set needs hundreds of files instead of a million.

The path of such an image is the path of the tar file followed by the name of the member:
``train-000.tar/n01440764/x.JPEG``. The headers of a tar file are scanned once per process (about 30
microseconds per member). After that, an image is a single read at a known offset. Up to 256 tar
files stay open, so reading needs no look-up in directories.

A member is found by name. The table of names is made again if the tar file was changed or replaced.
All functions may be called from several threads.
"""

from __future__ import annotations

import io
import os
import resource
import stat
import tarfile
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from crumb.data.index import path_problem, shown
from crumb.data.system_folders import in_system_folder
from crumb.errors import InputError

SUFFIX = ".tar"
_OPEN = 256
_BLOCK = 512
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_AGAIN = "fetch or write the tar file again"
_PLAIN = "write the tar file with plain files and relative names"


class MemberSpan(NamedTuple):
    """Location of a member's content: offset in the tar file and size in bytes."""

    offset: int
    size: int


def open_image(path: Path) -> io.BufferedReader | io.BytesIO:
    """The bytes of an image, which may be a member of a tar file.

    Raises:
        OSError: a plain file cannot be opened.
        InputError: a tar file is missing, compressed, cut short or damaged, or has no such member.
    """
    member = _member(path)
    return path.open("rb") if member is None else io.BytesIO(_read(*member))


def member_size(path: Path) -> int | None:
    """Bytes of a member of a tar file; None if the path is not inside one.

    Raises:
        InputError: as :func:`open_image`.
    """
    member = _member(path)
    return None if member is None else member.place.size


def members(tar: Path) -> Mapping[str, MemberSpan]:
    """All regular files in a tar file by name, in file order.

    Hidden files and files in system folders are left out. A name has no leading or repeated ``./``.

    Raises:
        InputError: the tar file is missing, compressed, truncated or damaged, or contains a link, a
            device, a repeated name or a name that leads out of the data set.
    """
    status = _status(str(tar))
    if stat.S_ISDIR(status.st_mode):
        raise InputError(tar, "is a folder", _AGAIN)
    return _table(str(tar), status)[1]


class _Version(NamedTuple):
    """Identity of a tar file, to detect replacement."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


class _Member(NamedTuple):
    """Location of a member."""

    tar: str
    version: _Version
    place: MemberSpan


def _member(path: Path) -> _Member | None:
    """Location of a member; None for a regular file, which may lie in a folder called x.tar."""
    text = str(path)
    end = text.find(SUFFIX + "/")
    while end >= 0:
        end += len(SUFFIX)
        tar, name = text[:end], text[end + 1 :]
        status = _status(tar)
        if not stat.S_ISDIR(status.st_mode):
            version, table = _table(tar, status)
            if (place := table.get(name)) is None:
                raise InputError(tar, f"has no member {shown(name)}", "restore it, or index again")
            return _Member(tar, version, place)
        end = text.find(SUFFIX + "/", end)
    return None


class _Shard:
    """Headers of a tar file."""

    def __init__(self, tar: str) -> None:
        self._tar = tar
        self._lock = Lock()
        self._version: _Version | None = None
        self._table: dict[str, MemberSpan] = {}
        self._error: InputError | None = None

    def table(self, version: _Version) -> Mapping[str, MemberSpan]:
        """Scan the headers unless they are known. Other threads wait."""
        with self._lock:
            if self._version != version:
                self._table, self._error = {}, None
                try:
                    self._table = dict(_scan(Path(self._tar)))
                except InputError as error:
                    self._error = error
                self._version = version
            if self._error is not None:
                raise InputError(*self._error.parts)
            return self._table


class _Handle:
    """An open file. It is closed when it is dropped and no thread reads from it."""

    def __init__(self, tar: str) -> None:
        self.descriptor = os.open(tar, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


_lock = Lock()
_shards: dict[str, _Shard] = {}
_handles: OrderedDict[tuple[str, _Version], _Handle] = OrderedDict()


def _status(tar: str) -> os.stat_result:
    try:
        return os.stat(tar)  # noqa: PTH116 (half the time, for every image)
    except OSError as error:
        raise InputError(tar, f"cannot be read ({error.strerror})", "restore it") from error


def _version(status: os.stat_result) -> _Version:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return _Version(status.st_dev, status.st_ino, status.st_size, *times)


def _table(tar: str, status: os.stat_result) -> tuple[_Version, Mapping[str, MemberSpan]]:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(tar, "is not a tar file", _AGAIN)
    with _lock:
        if tar not in _shards:
            _shards[tar] = _Shard(tar)
        shard = _shards[tar]
    version = _version(status)
    return version, shard.table(version)


def _read(tar: str, version: _Version, place: MemberSpan) -> bytes:
    offset, size = place
    try:
        handle = _handle(tar, version)
        content = os.pread(handle.descriptor, size, offset)
        # The system may return fewer bytes than requested.
        while len(content) < size:
            more = os.pread(handle.descriptor, size - len(content), offset + len(content))
            if not more:
                raise InputError(tar, "is cut short", _AGAIN)
            content += more
    except OSError as error:
        raise InputError(tar, f"cannot be read ({error.strerror})", "restore it") from error
    return content


def _handle(tar: str, version: _Version) -> _Handle:
    key = (tar, version)
    with _lock:
        if (handle := _handles.get(key)) is None:
            handle = _Handle(tar)
            if _version(os.fstat(handle.descriptor)) != version:
                raise InputError(tar, "changed while it was read", "try again")
            _handles[key] = handle
        _handles.move_to_end(key)
        while len(_handles) > _most_open():
            _handles.popitem(last=False)
    return handle


@cache
def _most_open() -> int:
    """At most a quarter of the files that this process may open."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OPEN if allowed == resource.RLIM_INFINITY else max(1, min(_OPEN, allowed // 4))


def _scan(tar: Path) -> Iterator[tuple[str, MemberSpan]]:
    try:
        with tar.open("rb", buffering=0) as file:
            start = file.read(8)
            for magic, kind in _COMPRESSED.items():
                if start.startswith(magic):
                    raise InputError(tar, f"is compressed with {kind}", "uncompress it")
            file.seek(0)
            seen: set[str] = set()
            for member in _headers(tar, file):
                # A reader that trusts this size may never reach the end.
                if member.size < 0:
                    raise InputError(tar, "is damaged (a member of negative size)", _AGAIN)
                name = _name(tar, member)
                if name is None:
                    continue
                if name in seen:
                    problem = f"has the member {shown(name)} twice"
                    raise InputError(tar, problem, "keep one of the two")
                seen.add(name)
                yield name, MemberSpan(member.offset_data, member.size)
    except OSError as error:
        raise InputError(tar, f"cannot be read ({error.strerror})", "restore it") from error


def _headers(tar: Path, file: io.FileIO) -> Iterator[tarfile.TarInfo]:
    """All headers up to the end. Unlike tarfile, it does not take a damaged header for the end."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                yield member
            position = archive.offset
    # It raises different errors on damaged headers.
    except (tarfile.TarError, ValueError, RecursionError, OverflowError) as error:
        raise InputError(tar, f"is cut short, damaged or no tar file ({error})", _AGAIN) from error
    file.seek(position)
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise InputError(tar, f"is cut short or damaged at byte {position}", _AGAIN)
    while rest := file.read(1 << 20):
        if rest.strip(b"\0"):
            problem = "goes on after its end, as several tar files in one"
            raise InputError(tar, problem, "write the tar files one by one")


def _name(tar: Path, member: tarfile.TarInfo) -> str | None:
    """The name of a member; None for a folder, a hidden file or a file of the system."""
    if problem := path_problem(member.name):
        raise InputError(tar, f"has a member that cannot be used: {problem}", _PLAIN)
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.isdir() or any(part.startswith(".") for part in parts):
        return None
    if in_system_folder(parts[:-1]):
        return None
    if not member.isreg() or member.issparse():
        problem = f"has the member {shown(member.name)}, which is not a regular file"
        raise InputError(tar, problem, _PLAIN)
    return "/".join(parts)
