"""Tensors that were read from a file, compared with those that a learner keeps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def check_names(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """See that the same tensors are there.

    Raises:
        ValueError: one is missing, or is not known.
    """
    if missing := sorted(expected.keys() - found.keys()):
        raise ValueError(f"{missing[0]} is missing")
    if unknown := sorted(found.keys() - expected.keys()):
        raise ValueError(f"{unknown[0][:80]} is not known")


def check_forms(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """See that the same tensors are there, of the same types and shapes.

    Raises:
        ValueError: naming the first that is not so.
    """
    check_names(found, expected)
    for name, value in expected.items():
        form, own = found[name], (value.dtype, tuple(value.shape))
        if (form.dtype, tuple(form.shape)) != own:
            problem = f"is {form.dtype} {[*form.shape]}, not {value.dtype} {[*value.shape]}"
            raise ValueError(f"{name} {problem}")


def check_finite(found: Mapping[str, Tensor]) -> None:
    """See that all numbers are finite.

    Raises:
        ValueError: naming the first tensor that holds another one.
    """
    for name, value in found.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name} is not finite")
