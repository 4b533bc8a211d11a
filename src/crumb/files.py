"""Write files atomically, and read them with one-line errors.

Everything the package writes is JSON, CSV, TOML, PNG or safetensors; nothing is a pickle.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crumb.errors import InputError, setting

if TYPE_CHECKING:
    import torch


WRITE_REMEDY = f"choose another {setting('output')} or free space"
# Suffix of a file that is being written.
_PART = ".part"


def write_bytes(path: Path, content: bytes, remedy: str = WRITE_REMEDY, sync: bool = True) -> None:
    """Write ``content`` to ``path``, as :func:`write_parts` does."""
    write_parts(path, [content], remedy, sync)


def write_parts(
    path: Path,
    parts: Iterable[bytes | memoryview],
    remedy: str = WRITE_REMEDY,
    sync: bool = True,
) -> None:
    """Write a file whole or not at all (temporary name, sync, rename).

    Args:
        path: path of the file; its folder is made.
        parts: content of the file. Each part is written before the next one is asked for.
        remedy: for the message.
        sync: wait for the disk. Without, a file may be empty after a power failure; for many small
            files that can be made again.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{short_name(path.name)}."
        handle, temporary = tempfile.mkstemp(_PART, prefix, path.parent)
        with os.fdopen(handle, "wb") as file:
            # mkstemp makes files private; results are meant to be shared like any other file.
            os.fchmod(file.fileno(), 0o666 & ~_UMASK)
            for part in parts:
                file.write(part)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise InputError(path, f"cannot be written ({error.strerror})", remedy) from error
    except ValueError as error:
        raise InputError(ascii(str(path)), "cannot be the name of a file", remedy) from error
    finally:
        # After the rename nothing has this name; after an error or an interrupt, half a file.
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def check_new_file(path: Path, name: str) -> None:
    """See that a new file can be written, before the work whose result it will hold.

    Args:
        path: path of the file; its folder may exist.
        name: name of what is to be changed, for the message.

    Raises:
        InputError: there is such a file or folder, or nothing can be written there.
    """
    try:
        if path.is_dir():
            raise InputError(path, "is a folder", f"give {name} the name of a file")
        if path.exists() or path.is_symlink():
            raise InputError(path, "exists and is not overwritten", f"remove it or give {name}")
        parent = next(one for one in path.absolute().parents if one.exists())
        handle, temporary = tempfile.mkstemp(_PART, f".{short_name(path.name)}.", parent)
        os.close(handle)
        Path(temporary).unlink()
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise InputError(path, problem, f"choose another {name}") from error


def followed(path: Path) -> Path:
    """The file that a link leads to, which writing must not replace by a file; else the path."""
    # A name that no file can have is refused where it is written.
    return Path(os.path.realpath(path)) if os.path.islink(path) else path  # noqa: PTH114


def short_name(name: str, most: int = 230) -> str:
    """Shorten a name so that a number and a suffix can be added (file systems allow 255 bytes).

    Args:
        name: name of a file or folder.
        most: bytes of the result; of a longer name its beginning and a digest of all of it.
    """
    content = os.fsencode(name)
    if len(content) <= most:
        return name
    mark = f"-{hashlib.sha256(content).hexdigest()[:16]}"
    return content[: most - len(mark)].decode(errors="ignore") + mark


def remove_parts(folder: Path) -> None:
    """Remove leftovers of killed writers in a folder without other writers."""
    for path in folder.glob(f".*.????????{_PART}"):
        with contextlib.suppress(OSError):
            path.unlink()


def is_folder(path: Path) -> bool:
    """Whether there is such a folder. A name that is invalid for a file is none."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def _current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _current_umask()


def write_text(path: Path, content: str, remedy: str = WRITE_REMEDY) -> None:
    """Write UTF-8 text with LF line ends, whole or not at all."""
    write_bytes(path, content.encode(), remedy)


def write_json(path: Path, value: Mapping[str, Any], remedy: str = WRITE_REMEDY) -> None:
    """Write a JSON object, two-space indented, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n", remedy)


def write_toml(path: Path, value: Mapping[str, Any]) -> None:
    """Write a TOML table whole or not at all; keys whose value is None are left out."""
    import tomli_w

    write_text(path, tomli_w.dumps({key: item for key, item in value.items() if item is not None}))


def write_csv(
    path: Path, rows: Iterable[Sequence[object]], header: Sequence[str] | None = None
) -> None:
    """Write :func:`csv_text`, whole or not at all."""
    write_text(path, csv_text(rows, header))


def csv_text(rows: Iterable[Sequence[object]], header: Sequence[str] | None = None) -> str:
    """Comma-separated rows with LF line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def write_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    meta: Mapping[str, str],
    remedy: str = WRITE_REMEDY,
) -> None:
    """Write a safetensors file, whole or not at all; ``meta`` becomes its metadata.

    No tensor is copied as a whole, unless it is a single row that is not contiguous.
    """
    from crumb.tensor_format import content_of

    write_parts(path, content_of(tensors, meta), remedy)


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, which tells damage."""
    from crumb.lazy import parts_of

    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        for part in parts_of(tensor):
            found.update(bytes_of(part))
    return found.hexdigest()


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    import torch

    return tensor.view(-1).view(torch.uint8).numpy().data


def file_size(path: Path) -> int:
    """Bytes of a regular file, told without opening it.

    A pipe would keep its reader waiting, and a device may have no end.

    Raises:
        OSError: there is no such file, or it is of another kind; ``strerror`` says which.
    """
    try:
        status = path.stat()
    except ValueError as error:
        raise OSError(errno.EINVAL, "no file can have this name") from error
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file")
    return status.st_size


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_text(path: Path, remedy: str, or_utf16: bool = False) -> str:
    """Read UTF-8 text; a byte order mark is dropped, CRLF and CR become LF.

    Args:
        path: path of the file.
        remedy: for the message.
        or_utf16: read UTF-16 as well, which Windows writes with a byte order mark.

    Raises:
        InputError: the file is missing, unreadable or of another encoding.
    """
    try:
        file_size(path)
        is_wide = or_utf16 and _is_utf16(path)
        return path.read_text(encoding="utf-16" if is_wide else "utf-8-sig")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", remedy) from error
    except UnicodeError as error:
        raise InputError(path, "is not UTF-8 text", remedy) from error
    # Names that were read from another file may hold what no file name can.
    except ValueError as error:
        raise InputError(ascii(str(path)), "cannot be the name of a file", remedy) from error


def _is_utf16(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
    # The mark of UTF-32 begins with that of UTF-16.
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return start.startswith(marks) and start != codecs.BOM_UTF32_LE


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: the file is missing, broken or not an object.
    """
    text = read_text(path, remedy)
    try:
        value = json.loads(text)
        if "\\u" in text:
            # JSON can name half a character, which nothing can print or write.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not valid JSON ({error})", remedy) from error
    if not isinstance(value, dict):
        raise InputError(path, "does not hold a JSON object", remedy)
    return value


def read_toml(path: Path, remedy: str) -> dict[str, Any]:
    """Read a TOML table.

    Raises:
        InputError: the file is missing or broken.
    """
    try:
        value = tomllib.loads(read_text(path, remedy))
        # A hexadecimal number may have more digits than can be printed in a message.
        repr(value)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not valid TOML ({error})", remedy) from error
    return value


def read_tensors(
    path: Path, remedy: str, lazy: str | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors on the CPU, and its metadata.

    Args:
        path: path of the file.
        remedy: for the message.
        lazy: how the names of tensors end that are read when they are used
            (:class:`crumb.lazy.LazyTensor`). The file must not change until then.

    Raises:
        InputError: the file is missing, cut short or not safetensors.
    """
    from crumb.tensor_format import stored

    with _opened(path, remedy) as file:
        # safe_open is no mapping; keys() is its own method.
        tensors = {
            name: stored(path, name, file.get_slice(name), remedy)
            if lazy is not None and name.endswith(lazy)
            else file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118
        }
        return tensors, file.metadata() or {}


def read_metadata(path: Path, remedy: str) -> dict[str, str]:
    """The metadata of a safetensors file; the tensors are not read, but must all be there.

    Raises:
        InputError: as :func:`read_tensors`.
    """
    with _opened(path, remedy) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path, remedy: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        file_size(path)
        with safe_open(path, framework="pt") as file:
            yield file
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", remedy) from error
    except SafetensorError as error:
        raise InputError(path, f"is not a whole safetensors file ({error})", remedy) from error
