"""The safetensors format: written part by part, and read when tensors are used."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from crumb.errors import InputError
from crumb.files import bytes_of
from crumb.lazy import LazyTensor, parts_of

# Bytes that store the length of the header.
_LENGTH_BYTES = 8


def content_of(
    tensors: Mapping[str, Tensor], meta: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Yield the content of a safetensors file, part by part.

    It equals the result of ``safetensors.torch.save``, which copies all tensors several times.
    """
    header, names = _header(tensors, meta)
    yield header
    for name in names:
        yield from map(bytes_of, parts_of(tensors[name]))


def _header(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """The header of a safetensors file, and the names of its tensors in file order."""
    # The library determines the order of the tensors and the names of their dtypes.
    empty = save({name: torch.empty(0, dtype=tensor.dtype) for name, tensor in tensors.items()})
    entries, end = json.loads(empty[_LENGTH_BYTES:]), 0
    for name, entry in entries.items():
        start, end = end, end + tensors[name].nbytes
        entry |= {"shape": list(tensors[name].shape), "data_offsets": [start, end]}
    about = {"__metadata__": dict(meta)} if meta else {}
    text = json.dumps(about | entries, ensure_ascii=False, separators=(",", ":")).encode()
    # The values start at a multiple of eight bytes.
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text, list(entries)


def stored(path: Path, name: str, about: Any, remedy: str) -> Tensor:
    """A tensor that stays in its safetensors file until it is used.

    Args:
        path: path of the file, whose header has been checked.
        name: name of the tensor.
        about: its slice from ``safe_open``.
        remedy: for messages.
    """
    shape = tuple(about.get_shape())
    if not shape:
        return about[...]
    start, dtype = _start(path, name), about[:0].dtype
    of_a_row = math.prod(shape[1:]) * dtype.itemsize

    def rows(first: int, last: int) -> Tensor:
        values = torch.empty((last - first, *shape[1:]), dtype=dtype)
        try:
            with path.open("rb") as file:
                file.seek(start + first * of_a_row)
                read = file.readinto(bytes_of(values))
        except OSError as error:
            raise InputError(path, f"cannot be read ({error.strerror})", remedy) from error
        if read != values.nbytes:
            raise InputError(path, "is not a whole safetensors file", remedy)
        return values

    return LazyTensor(shape, dtype, rows)


def _start(path: Path, name: str) -> int:
    """Offset of a tensor in a safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        entries = json.loads(file.read(length))
    return _LENGTH_BYTES + length + entries[name]["data_offsets"][0]
