"""Check tensors read from a file against those of a learner."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def check_names(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that both have the same tensors.

    Raises:
        ValueError: a tensor is missing or unknown.
    """
    if missing := sorted(expected.keys() - found.keys()):
        raise ValueError(f"{missing[0]} is missing")
    if unknown := sorted(found.keys() - expected.keys()):
        raise ValueError(f"{unknown[0][:80]} is not known")


def check_forms(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that both have the same tensors, with the same types and shapes.

    Raises:
        ValueError: names the first that differs.
    """
    check_names(found, expected)
    for name, value in expected.items():
        form, own = found[name], (value.dtype, tuple(value.shape))
        if (form.dtype, tuple(form.shape)) != own:
            problem = f"is {form.dtype} {[*form.shape]}, not {value.dtype} {[*value.shape]}"
            raise ValueError(f"{name} {problem}")


def check_finite(found: Mapping[str, Tensor]) -> None:
    """Check that all numbers are finite.

    Raises:
        ValueError: names the first tensor with a non-finite number.
    """
    for name, value in found.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name} is not finite")
