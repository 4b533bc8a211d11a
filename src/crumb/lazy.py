"""Large tensors that are written and read a few rows at a time, so that none is in memory twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

PART_BYTES = 4 << 20
"""Maximum bytes of a part, unless a single row is larger."""

_SAVING: ContextVar[bool] = ContextVar("saving", default=False)


@contextmanager
def lazy_states() -> Iterator[None]:
    """A context in which state dicts hold the rows of replay memories as :class:`LazyTensor`.

    Such a state must be written before the memory changes.
    """
    token = _SAVING.set(True)
    try:
        yield
    finally:
        _SAVING.reset(token)


def states_are_lazy() -> bool:
    """Whether :func:`lazy_states` is active."""
    return _SAVING.get()


class LazyTensor(Tensor):
    """A tensor on the CPU whose values are computed when they are used.

    :func:`parts_of` computes a few rows at a time. Any operation of torch computes all of them.

    Args:
        shape: at least one dimension.
        dtype: dtype of the values.
        rows: returns the rows from a start to a stop, contiguous on the CPU.
    """

    rows: Callable[[int, int], Tensor]

    def __new__(
        cls: type[LazyTensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        rows: Callable[[int, int], Tensor],
    ) -> LazyTensor:
        """Make a tensor without allocated values."""
        made = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)
        made.rows = rows
        return made

    def __init__(self, *given: Any) -> None:
        pass

    def whole(self) -> Tensor:
        """All rows as a plain tensor."""
        return self.rows(0, len(self))

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply an operation to the whole tensor."""
        plain = tree_map_only(LazyTensor, LazyTensor.whole, (args, kwargs or {}))
        return func(*plain[0], **plain[1])


def parts_of(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the rows of a tensor in order, some at a time, contiguous on the CPU.

    Rows are copied if they are not contiguous or not on the CPU, but not all at the same time.
    """
    if not tensor.ndim:
        yield tensor.detach().cpu()
        return
    of_a_row = tensor.nbytes // max(1, len(tensor))
    count = max(1, PART_BYTES // max(1, of_a_row))
    for start in range(0, len(tensor), count):
        yield rows_between(tensor, start, start + count)


def rows_between(tensor: Tensor, start: int, stop: int) -> Tensor:
    """The rows of a tensor from ``start`` to ``stop``, contiguous on the CPU."""
    if isinstance(tensor, LazyTensor):
        return tensor.rows(start, min(stop, len(tensor)))
    return tensor[start:stop].detach().cpu().contiguous()
