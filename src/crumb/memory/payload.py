"""Additional tensors that a method stores with each exemplar: logits, scores, tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Field:
    """Specification of a tensor stored with each exemplar.

    Attributes:
        shape: shape of the tensor of one exemplar; () for a number.
        dtype: dtype of the tensor.
        default: every element of the tensor of a new exemplar, unless a tensor is given for it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    default: float | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor of one exemplar."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta").nbytes


Fields = Mapping[str, Field]


class Payload:
    """Tensors stored with exemplars, by row number, on the CPU.

    Args:
        fields: the tensors of each exemplar, by name.
    """

    def __init__(self, fields: Fields) -> None:
        self.fields = dict(fields)
        self._sizes = [field.nbytes for field in self.fields.values()]
        self._data: dict[int, bytes] = {}

    def resize(self, name: str, size: int) -> int:
        """Change the length of a field of one dimension. Stored tensors are cut, or padded with
        zeros.

        Args:
            name: name of the field.
            size: new length.

        Returns:
            additional bytes of one exemplar.
        """
        before, slots = self.fields[name], [*self._data]
        stored = self.get(slots)
        after = replace(before, shape=(size,))
        self.fields[name] = after
        self._sizes = [field.nbytes for field in self.fields.values()]
        if slots:
            missing = size - before.shape[0]
            stored[name] = pad(stored[name], (0, missing))
            self.put(slots, stored)
        return after.nbytes - before.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(self._sizes) * len(self._data)

    def put(self, slots: Sequence[int], values: Mapping[str, Tensor]) -> None:
        """Store one tensor of each field for each exemplar, or replace it.

        Args:
            slots: numbers of the rows.
            values: [len(slots), *shape] by name of the field. Those with a default may be left
                out.
        """
        usual = {
            name: torch.full((len(slots), *field.shape), field.default, dtype=field.dtype)
            for name, field in self.fields.items()
            if field.default is not None and name not in values
        }
        values = {**values, **usual}
        if values.keys() != self.fields.keys():
            raise ValueError(f"{sorted(values)} are stored, and {sorted(self.fields)} are expected")
        if not self.fields:
            return
        parts = [
            _bytes_of(values[name], (len(slots), *field.shape), field.dtype)
            for name, field in self.fields.items()
        ]
        for slot, record in zip(slots, np.concatenate(parts, axis=1), strict=True):
            self._data[slot] = record.tobytes()

    def get(self, slots: Sequence[int]) -> dict[str, Tensor]:
        """Payload of some exemplars: [len(slots), *shape] by field name."""
        if not self.fields:
            return {}
        records = np.frombuffer(b"".join(self._data[slot] for slot in slots), np.uint8)
        records = records.reshape(len(slots), sum(self._sizes))
        ends = np.cumsum(self._sizes)[:-1]
        parts = np.split(records, ends, axis=1)
        return {
            name: _tensor_of(part, field)
            for (name, field), part in zip(self.fields.items(), parts, strict=True)
        }

    def drop(self, slots: Iterable[int]) -> None:
        """Drop the payload of removed exemplars."""
        for slot in slots if self.fields else ():
            del self._data[slot]


def _tensor_of(records: np.ndarray, field: Field) -> Tensor:
    """[n, *shape] from uint8 [n, bytes of one]."""
    flat = torch.from_numpy(records.copy()).view(-1).view(field.dtype)
    return flat.view(len(records), *field.shape)


def _bytes_of(values: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
    """Uint8 [n, bytes of one]."""
    if tuple(values.shape) != shape:
        raise ValueError(f"a payload of {shape} was declared, and {tuple(values.shape)} is stored")
    flat = values.detach().to("cpu", dtype).contiguous().view(-1)
    return flat.view(torch.uint8).numpy().reshape(shape[0], -1)
