"""The arms: each changes what its file names, and nothing else."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from crumb.codebook.initialisers import INITIALISERS
from crumb.data.index import Dataset, write_dataset
from crumb.errors import InputError
from crumb.experiments import ablation
from crumb.experiments import arms as module
from crumb.experiments.arms import (
    UNABLATED,
    AblateConfig,
    Settings,
    arms,
    resolve,
    unablated,
)
from crumb.methods.crumb_config import CrumbConfig, adapted
from crumb.nets.backbones import BACKBONES
from crumb.nets.config import NetworkConfig

ARMS = arms()
CONFIG = AblateConfig(
    Path("set"), pretrain_dataset=Path("other"), pretrain_classes=("a", "b"), cifar100=Path("small")
)
# The published run that is not ablated, with everything else that an arm may change set as well.
NETWORK = NetworkConfig("squeezenet1_0", cut="features.9", weights="own.pth", dropout=0.25)
METHOD = CrumbConfig(
    memory_size=200,
    blocks=100,
    block_length=2,
    initialiser="sorted",
    replay_coefficient=3.0,
    codebook_loss=0.5,
    direct_loss=0.25,
    lr=0.005,
    clip=2.0,
)
MEMORY_BYTES = 1234
CODEBOOK = ("blocks", "block_length", "initialiser", "frozen_blocks")
LOSSES = ("codebook_loss", "direct_loss")
CAPACITIES = ("memory_size", "memory_bytes", "budget_bytes")


def base_of(method: CrumbConfig = METHOD, network: NetworkConfig = NETWORK) -> Settings:
    return unablated(CONFIG, network, method)


def flat(settings: Settings) -> dict[str, Any]:
    parts: dict[str, Any] = {"stream": asdict(settings.stream)}
    parts |= {"network": asdict(settings.network), "method": asdict(settings.method)}
    if settings.pretraining is not None:
        parts["pretraining"] = asdict(settings.pretraining.stream)
        parts["pretrain_method"] = asdict(settings.pretraining.method)
        parts["pretrain"] = {"parts": settings.pretraining.parts}
    return {f"{part}.{key}": value for part, keys in parts.items() for key, value in keys.items()}


def said(tables: dict[str, Any]) -> dict[str, Any]:
    """What a file names, under the names of :func:`flat`; written down here once more by hand."""
    expected = {f"network.{key}": value for key, value in tables.get("network", {}).items()}
    expected |= {f"method.{key}": value for key, value in tables.get("method", {}).items()}
    for key, value in tables.get("codebook", {}).items():
        expected |= {f"method.{key}": value, f"pretrain_method.{key}": value}
    pretrain = tables.get("pretrain", {})
    for key, value in pretrain.get("method", {}).items():
        expected[f"pretrain_method.{key}"] = value
    if "epochs" in pretrain:
        expected["pretraining.epochs_first_task"] = pretrain["epochs"]
    if "parts" in pretrain:
        expected["pretrain.parts"] = pretrain["parts"]
    if "data" in pretrain:
        expected |= {"pretraining.dataset": Path("small"), "pretraining.classes": ()}
    own = tables.get("arm", {})
    if "cut" in own:
        expected["network.cut"] = own["cut"]["squeezenet1_0"]
    if "memory_share" in own:
        expected["method.memory_size"] = 200 * own["memory_share"]
    if "same_bytes" in own:
        expected |= {"method.memory_size": None, "method.memory_bytes": MEMORY_BYTES}
    return expected


def taken_away(tables: dict[str, Any]) -> set[str]:
    """Settings of parts that the arm has no longer."""
    method = tables.get("method", {})
    gone: set[str] = set()
    if method.get("storage", "feature") != "feature":
        gone |= {f"method.{key}" for key in (*CODEBOOK, *LOSSES)}
    if method.get("storage") == "merec":
        gone |= {f"method.{key}" for key in CAPACITIES}
    if method.get("replay_times") == 0:
        gone.add("method.replay_coefficient")
    return gone


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_differs_in_what_its_file_names(name: str):
    base, tables = base_of(), dict(ARMS[name].tables)
    found, before = flat(resolve(ARMS[name], base, CONFIG, MEMORY_BYTES)), flat(base)
    expected = before | said(tables)
    defaults = flat(unablated(CONFIG, NetworkConfig(), CrumbConfig()))
    expected |= {key: defaults[key] for key in taken_away(tables)}
    if tables.get("network", {}).get("backbone"):
        expected |= {"network.cut": None, "network.weights": "pretrained"}
    if not tables.get("arm", {}).get("pretraining", True):
        expected = {k: v for k, v in expected.items() if not k.startswith("pretrain")}
    assert found == expected
    # Nothing in a file goes without effect.
    for key, value in said(tables).items():
        assert before[key] != value, key
    assert (found == before) == (name == UNABLATED)


@pytest.mark.parametrize("name", ARMS)
def test_files_say_what_they_show_and_hold_nothing_else(name: str):
    tables = ARMS[name].tables
    assert tables["about"]["shows"]
    # An arm that changes two things is beside one that changes only one of them.
    if (beside := tables["about"].get("beside")) is not None:
        before, own = (flat(resolve(ARMS[n], base_of(), CONFIG, 1)) for n in (beside, name))
        assert own != before != flat(base_of())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[memory]\nsize = 2", "has an unknown section memory"),
        ("[codebook]\nblock = 2", "has an unknown key block in codebook"),
        ("[pretrain.method]\nloss = 1", "has an unknown key loss in pretrain.method"),
        ('[about]\nbeside = "nothing"', "refers to nothing, which is not an arm"),
        ("method = 2", "method is not a section"),
    ],
)
def test_an_arm_file_that_says_what_no_arm_has_is_refused(text, said, tmp_path, monkeypatch):
    (tmp_path / "own.toml").write_text(text)
    monkeypatch.setattr(module, "_ARMS", tmp_path)
    with pytest.raises(InputError, match=rf"own\.toml: {said}"):
        arms()


def test_names_of_the_readme_are_there():
    named = {arm["about"]["readme"] for arm in ARMS.values() if "readme" in arm["about"]}
    assert len(named) == 24
    assert ARMS["no_pretraining"]["about"]["readme"] == "Vanilla pretrain"


def test_the_whole_study_is_there():
    """The arms of the paper and of its program."""
    one = {"early_cut", "image_replay", "pretrained_image_replay", "cifar100_pretraining"}
    one |= {"vanilla_pretraining", "no_pretraining", "pretrained_weights", "pretrained_blocks"}
    one |= {"frozen_memory", "half_capacity", "quarter_capacity", "no_replay", "merec"}
    one |= {"minus_direct_loss", "plus_direct_loss", "only_direct_loss", "mobilenet_v2"}
    one |= {"raw_features", "enhanced_features", "sample_first_batch", "unlimited_memory"}
    many = {f"blocks_{2**power}" for power in range(10)}
    many |= {f"block_length_{n}{end}" for n in (4, 8, 16, 32) for end in ("", "_same_bytes")}
    many |= {f"{what}_{n}x" for what in ("capacity", "image_replay") for n in (2, 4, 8, 16, 32)}
    many |= {f"initialiser_{name}" for name in INITIALISERS}
    assert ARMS.keys() == {UNABLATED} | one | many
    assert next(iter(ARMS)) == UNABLATED
    assert ARMS["early_cut"]["arm"]["cut"].keys() == BACKBONES.keys()


@pytest.mark.parametrize(
    ("given", "half", "same"),
    [
        ({}, {"memory_size": 208}, {"memory_bytes": MEMORY_BYTES}),
        ({"memory_size": 1}, {"memory_size": 1}, {"memory_bytes": MEMORY_BYTES}),
        ({"memory_bytes": 900}, {"memory_bytes": 450}, {"memory_bytes": 900}),
        # Not half of what exemplars are read with.
        ({"budget_bytes": 9000}, {"memory_bytes": MEMORY_BYTES // 2}, {"budget_bytes": 9000}),
    ],
)
def test_capacities_are_those_of_the_whole_run(given, half, same):
    base = base_of(CrumbConfig(**given))
    for name, wanted in (("half_capacity", half), ("block_length_8_same_bytes", same)):
        found = resolve(ARMS[name], base, CONFIG, MEMORY_BYTES).method
        assert {n: v for n in CAPACITIES if (v := getattr(found, n)) is not None} == wanted
    unlimited = resolve(ARMS["unlimited_memory"], base, CONFIG, MEMORY_BYTES).method
    assert [getattr(unlimited, name) for name in CAPACITIES] == [10**8, None, None]


def test_pretraining_trains_both_losses_and_stores_nothing():
    base = base_of(replace(METHOD, frozen_blocks=True, write_policy="on-arrival"))
    assert base.pretraining is not None
    method = base.pretraining.method
    assert (method.codebook_loss, method.direct_loss, method.frozen_blocks) == (1, 1, False)
    assert (method.storage, method.replay_times, method.memory_size) == ("none", 0, None)
    assert (method.blocks, method.block_length, method.lr) == (100, 2, 0.005)
    # What memory the stream has makes no other pretraining.
    other = base_of(replace(METHOD, memory_size=7, replay_coefficient=9.0, replay_times=4))
    assert other.pretraining == base.pretraining


def test_an_early_cut_is_asked_for_where_none_is_known():
    base = base_of(network=NetworkConfig("resnet18", "layer4"))
    with pytest.raises(InputError, match="no early cut for backbone='resnet18'; name a layer with"):
        resolve(ARMS["early_cut"], base, CONFIG, MEMORY_BYTES)
    config = replace(CONFIG, early_cut="layer2")
    assert resolve(ARMS["early_cut"], base, config, MEMORY_BYTES).network.cut == "layer2"


def test_adapted_keeps_what_is_still_of_use():
    config = adapted(METHOD, storage="image")
    assert (config.memory_size, config.replay_coefficient, config.lr) == (200, 3.0, 0.005)
    assert (config.blocks, config.codebook_loss) == (256, 1.0)
    assert adapted(METHOD) == METHOD
    with pytest.raises(InputError, match="blocks=0"):
        adapted(METHOD, blocks=0)


@pytest.mark.parametrize("pretrained", ["\u00c4", "A\u0308"])
@pytest.mark.parametrize("streamed", ["\u00c4", "A\u0308"])
def test_a_class_is_not_pretrained_on_and_streamed_in_another_form(
    dataset: Dataset, tmp_path: Path, pretrained: str, streamed: str
):
    names = dict(dataset.class_names)
    names[next(iter(names))] = "\u00c4"
    write_dataset(replace(dataset, folder=tmp_path / "set", class_names=names))
    _, second, *others = names.values()
    config = AblateConfig(
        tmp_path / "set", pretrain_classes=(pretrained, second), classes=(streamed, *others)
    )
    with pytest.raises(InputError, match="is also streamed"):
        ablation._with_classes(config)
    left = ablation._with_classes(replace(config, classes=())).classes
    assert left == tuple(others)
