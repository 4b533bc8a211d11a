"""All checks of a method, by its variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from crumb.methods.base import Learner
from crumb.testing import learning_checks, memory_checks, resuming_checks
from crumb.testing.runs import known
from crumb.testing.variants import Variant, variants

Check = Callable[[Variant], None]

_PREFIX = "check_"
_ONLY: dict[Check, Callable[[Variant], bool]] = {
    memory_checks.check_memory_size_is_kept_at_every_step_and_used: lambda v: v.keeps_exemplars,
    memory_checks.check_a_budget_in_bytes_is_kept_at_every_step_and_used: lambda v: v.has_a_budget,
    memory_checks.check_a_budget_in_bytes_is_kept_with_many_classes: lambda v: v.keeps_exemplars,
    memory_checks.check_a_budget_for_nothing_is_refused: lambda v: v.has_a_budget,
    memory_checks.check_a_method_without_exemplars_takes_no_budget: lambda v: not v.has_a_budget,
    resuming_checks.check_cuda_learns_what_the_cpu_learns: lambda _: torch.cuda.is_available(),
}
"""Checks that apply only to some variants."""


def _of(module: ModuleType) -> Iterator[tuple[str, Check]]:
    for name, value in vars(module).items():
        if name.startswith(_PREFIX):
            yield name.removeprefix(_PREFIX), value


CHECKS: dict[str, Check] = {
    name: check
    for module in (learning_checks, memory_checks, resuming_checks)
    for name, check in _of(module)
}
"""Every check by name; each takes a :class:`Variant`, and raises an AssertionError that says what
is wrong."""


def checks_of(variant: Variant) -> dict[str, Check]:
    """The checks that apply to a variant, by name."""
    return {name: one for name, one in CHECKS.items() if _ONLY.get(one, _always)(variant)}


def _always(variant: Variant) -> bool:
    return True


def check_learner(kind: type[Learner], **settings: Any) -> None:
    """Check that a method fulfils the contract of all methods.

    The method learns a tiny stream with each allowed value of ``storage`` and ``write_policy``.
    Checks include: claimed bytes are correct, equal seeds give equal bytes, a saved learner
    continues bit for bit, evaluation changes nothing, and classes may appear at any time. Takes
    seconds per variant.

    Args:
        kind: class of the method; it need not be registered.
        settings: further settings of all variants, such as fewer steps.

    Raises:
        AssertionError: naming the variant, the check and what is wrong.
    """
    for variant in variants(kind, **settings):
        for name, check in checks_of(variant).items():
            run_check(variant, name, check)


def run_check(variant: Variant, name: str, check: Check) -> None:
    """Run one check.

    Raises:
        AssertionError: naming the variant, the check and what is wrong.
    """
    with known(variant.kind):
        try:
            check(variant)
        except AssertionError as error:
            raise AssertionError(f"{variant}, {name.replace('_', ' ')}: {error}") from error
