"""The arms of crumb2: each changes one setting, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crumb.errors import InputError
from crumb.experiments import arms as module
from crumb.experiments.arms import UNABLATED, AblateConfig, Settings, arms, resolve, unablated
from crumb.methods.crumb2 import Crumb2Config
from crumb.nets.config import NetworkConfig

CONFIG = AblateConfig(Path("set"), method="crumb2")
# No setting that an arm changes is at its default.
METHOD = Crumb2Config(
    budget_bytes=64_000,
    rank=5,
    class_share=0.4,
    prior_frames=100,
    shrinkage=0.2,
    crumbs=8,
    tail="first-task",
    tuning_epochs=3,
)
CHANGES: dict[str, dict[str, Any]] = {
    UNABLATED: {},
    "no_axes": {"rank": 0},
    "rank_2": {"rank": 2},
    "rank_8": {"rank": 8},
    "rank_16": {"rank": 16},
    "class_share_0.3": {"class_share": 0.3},
    "class_share_0.7": {"class_share": 0.7},
    "no_prior": {"prior_frames": 0},
    "half_shrinkage": {"shrinkage": 0.1},
    "double_shrinkage": {"shrinkage": 0.4},
    "no_transform": {"transform": "none"},
    "no_crumbs": {"crumbs": 0},
    "frozen_tail": {"tail": "frozen"},
    "tuning_epochs_2": {"tuning_epochs": 2},
    "tuning_epochs_10": {"tuning_epochs": 10},
}


def base_of(method: Crumb2Config = METHOD) -> Settings:
    return unablated(CONFIG, NetworkConfig(), method)


def test_each_arm_changes_one_setting():
    known, base = arms("crumb2"), base_of()
    assert base.stream.method == "crumb2"
    assert base.pretraining is None
    found = {name: resolve(arm, base, CONFIG, 0) for name, arm in known.items()}
    assert found == {
        name: replace(base, method=replace(METHOD, **change)) for name, change in CHANGES.items()
    }
    assert next(iter(known)) == UNABLATED
    assert all(arm["about"]["shows"] for arm in known.values())


def test_a_multiple_out_of_range_names_the_setting():
    base = base_of(replace(METHOD, shrinkage=0.6))
    with pytest.raises(InputError, match=r"shrinkage=1\.2: "):
        resolve(arms("crumb2")["double_shrinkage"], base, CONFIG, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[method]\nblocks = 2", "has an unknown key blocks in method"),
        ("[times]\nsize = 2", "has an unknown key size in times"),
        ("[codebook]\nblocks = 2", "has an unknown section codebook"),
        ("[arm]\npretraining = false", "has an unknown section arm"),
    ],
)
def test_keys_that_crumb2_does_not_have_are_refused(text, said, tmp_path, monkeypatch):
    (tmp_path / "crumb2").mkdir()
    (tmp_path / "crumb2" / "own.toml").write_text(text)
    monkeypatch.setattr(module, "_ARMS", tmp_path)
    with pytest.raises(InputError, match=rf"own\.toml: {said}"):
        arms("crumb2")
