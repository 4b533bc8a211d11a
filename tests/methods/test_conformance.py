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


def pairs() -> Iterator[Any]:
    """Each check of each variant; those of a variant one after the other, as they share runs."""
    for name, kind in methods().items():
        for variant in variants(kind, **QUICK.get(name, {})):
            for check, function in checks_of(variant).items():
                yield pytest.param(variant, check, function, id=f"{variant}-{check}")


@pytest.mark.parametrize(("variant", "name", "check"), list(pairs()))
def test_conforms(variant: Variant, name: str, check: Check):
    run_check(variant, name, check)


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
