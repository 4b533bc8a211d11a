"""What every registered method must do. A new method is tested here unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from crumb.data.batches import Batch
from crumb.methods.base import BytesHeld
from crumb.methods.finetune import Finetune
from crumb.methods.registry import find_method, methods
from crumb.testing import Variant, checks_of, variants
from crumb.testing.conformance import Check, run_check
from crumb.testing.memory_checks import check_nothing_is_kept_of_each_frame

DOCS = Path(__file__).parents[2] / "docs/methods.md"
QUICK: dict[str, dict[str, Any]] = {
    "bic": {"bias_steps": 50},
    "gdumb": {"memory_epochs": 6, "lr": 0.1},
    "klda": {"dimensions": 24},
    "rainbow": {"memory_only_epochs": 8},
    "ranpac": {"dimensions": 24},
    "siesta": {"sleep_steps": 20},
}
"""Settings with which a method does the same in less time."""


COMPLETE = ("crumb", "er")
"""Methods of which every policy is tested with every storage: one for each kind of store."""


def chosen(name: str) -> list[Variant]:
    """The variants that are tested: each storage with the first policy, each policy with one."""
    found = [*variants(find_method(name), **QUICK.get(name, {}))]
    settings = [dict(variant.settings) for variant in found]
    storages, policies = (
        [*dict.fromkeys(each.get(key) for each in settings)] for key in ("storage", "write_policy")
    )

    def is_chosen(storage: str | None, policy: str | None) -> bool:
        number = policies.index(policy)
        return not number or storages.index(storage) == number % len(storages)

    return [
        variant
        for variant, own in zip(found, settings, strict=True)
        if name in COMPLETE or is_chosen(own.get("storage"), own.get("write_policy"))
    ]


def pairs() -> Iterator[Any]:
    """Each check of each variant; those of a variant one after the other, as they share runs."""
    for name in methods():
        for variant in chosen(name):
            for check, function in checks_of(variant).items():
                yield pytest.param(variant, check, function, id=f"{variant}-{check}")


@pytest.mark.parametrize(("variant", "name", "check"), list(pairs()))
def test_conforms(variant: Variant, name: str, check: Check):
    run_check(variant, name, check)


def test_each_storage_and_each_policy_is_tested():
    for name in methods():
        for setting in ("storage", "write_policy"):
            there, tested = (
                {dict(one.settings).get(setting) for one in those}
                for those in (variants(find_method(name)), chosen(name))
            )
            assert tested == there


@pytest.mark.parametrize("name", methods())
def test_is_documented(name: str):
    assert f"| `{find_method(name).name}` |" in DOCS.read_text()


def test_a_method_that_hoards_frames_does_not_conform():
    class Hoard(Finetune):
        name = "hoard"

        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self.kept: list[Tensor] = []

        def learn(self, batch: Batch) -> dict[str, Tensor]:
            self.kept.append(batch.features.clone())
            return super().learn(batch)

        def bytes_held(self) -> BytesHeld:
            return BytesHeld(0, sum(value.nbytes for value in self.kept))

    (variant,) = variants(Hoard)
    with pytest.raises(AssertionError, match="bytes more for more frames"):
        check_nothing_is_kept_of_each_frame(variant)
