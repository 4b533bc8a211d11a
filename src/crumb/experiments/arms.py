"""The arms of the ablation study: the changes of each to the unablated run.

An arm is a TOML file with the differences only (after the ablations of Talbot et al. 2025):

====================  ==============================================================================
section               what it changes
====================  ==============================================================================
``about``             nothing: what the arm shows, the original's scripts and the name in its
                      README, where the two differ; the arm that it is ``beside``, if it differs
                      from the unablated run in two things
``network``           the backbone, of pretraining and stream
``codebook``          blocks, their length and initial values, of pretraining and stream
``method``            CRUMB in the stream
``pretrain``          pretraining: ``data``, ``epochs``, ``parts`` (that the stream starts from); in
                      ``pretrain.method`` CRUMB in pretraining
``arm``               what depends on the unablated run: ``pretraining`` (false for none),
                      ``memory_share`` (of its capacity), ``same_bytes`` (as its exemplars have in
                      all), ``cut`` (of each backbone)
====================  ==============================================================================

Settings of a part that an arm takes away (of the codebook, of the memory, of another backbone) go
back to their defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from crumb.errors import InputError, meant, setting
from crumb.files import read_toml
from crumb.kinds import Argument
from crumb.memory.capacity import CAPACITIES, PAPER_MEMORY_SIZE
from crumb.methods.crumb_config import CrumbConfig, adapted
from crumb.methods.training import PretrainedParts
from crumb.nets.config import NetworkConfig
from crumb.stream.config import (
    MAX_EPOCHS,
    MAX_IMAGES,
    EvaluationConfig,
    ProtocolConfig,
    StreamConfig,
    at_least,
    shared_settings,
)

ALL, UNABLATED = "all", "unablated"
_ARMS = Path(str(files("crumb") / "arms"))
_OF_METHOD = tuple(own.name for own in fields(CrumbConfig))
SECTIONS = {
    "about": ("shows", "original", "readme", "beside"),
    "network": tuple(own.name for own in fields(NetworkConfig)),
    "codebook": ("blocks", "block_length", "initialiser"),
    "method": _OF_METHOD,
    "pretrain": ("data", "epochs", "parts", "method"),
    "pretrain.method": _OF_METHOD,
    "arm": ("pretraining", "memory_share", "same_bytes", "cut"),
}
"""Allowed keys in an arm's file, by section."""
# Flags that apply to a single arm.
_FOR_ONE = {"cifar100": "cifar100_pretraining", "early_cut": "early_cut"}


@dataclass(frozen=True)
class AblateConfig(ProtocolConfig):
    """Ablation study of CRUMB: run it with one thing changed at a time and compare with the
    unablated run.
    """

    dataset: Path
    """Folder written by `crumb index`."""
    arms: Annotated[tuple[str, ...], Argument(positional=True, metavar="ARM ...")] = ()
    """Arms to run, by name (see `crumb ablate list`), or all."""
    pretrain_classes: tuple[str, ...] = ()
    """Classes to pretrain on. Those of the streamed data set are left out of the stream."""
    pretrain_dataset: Path | None = None
    """Data set to pretrain on. Default: the streamed data set."""
    pretrain_epochs: int = 10
    """Number of pretraining epochs."""
    pretrain_batch_size: int = 128
    """Batch size of pretraining in images."""
    cifar100: Path | None = None
    """CIFAR-100 folder written by `crumb index`, for the arm cifar100_pretraining."""
    early_cut: str | None = None
    """First layer of the tail in the arm early_cut. Default: depends on the backbone (known for
    three)."""
    pretrained: Annotated[Path | None, Argument(hidden=True)] = None
    pretrained_parts: Annotated[Any, Argument(hidden=True)] = "both"
    output: Path | None = None
    """Results folder of the study. Default: outputs/<data
    set>/ablate_<protocol>_<mode>_<backbone>."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("pretrain_epochs", self.pretrain_epochs, 1, MAX_EPOCHS)
        at_least("pretrain_batch_size", self.pretrain_batch_size, 1, MAX_IMAGES)
        if len(set(self.pretrain_classes)) != len(self.pretrain_classes):
            raise InputError(setting("pretrain_classes"), "names one twice", "name each once")
        if len(self.pretrain_classes) == 1:
            given = setting("pretrain_classes", self.pretrain_classes[0])
            problem = "is a single class, but a classifier needs two"
            raise InputError(given, problem, "name two or more")
        self._check_use()

    def _check_use(self) -> None:
        """Refuse flags of arms that were not requested."""
        if self.early_cut == "":
            raise InputError(setting("early_cut"), "is empty", "name one, or leave it out")
        for own, name in _FOR_ONE.items():
            value = getattr(self, own)
            if value is not None and self.arms and not {ALL, name} & set(self.arms):
                problem = f"has no effect without the arm {name}"
                raise InputError(setting(own, value), problem, "give both or neither")

    @property
    def names(self) -> tuple[str, ...]:
        """The requested arms, without the unablated run.

        Raises:
            InputError: no arm is given, an arm is unknown or given twice.
        """
        known = arms()
        if self.arms == (ALL,):
            return tuple(name for name in known if name != UNABLATED)
        if not self.arms:
            remedy = "name one or more, or all; crumb ablate list names them"
            raise InputError("crumb ablate", "ARM is missing", remedy)
        if ALL in self.arms:
            raise InputError(
                "crumb ablate all", "already includes all arms", "leave out the other names"
            )
        for name in self.arms:
            if name not in known:
                problem = f"no such arm{meant(name, arms())}"
                raise InputError(f"crumb ablate {name}", problem, "see crumb ablate list")
        if len(set(self.arms)) != len(self.arms):
            raise InputError("crumb ablate", "is given an arm twice", "name each once")
        return tuple(name for name in self.arms if name != UNABLATED)


@dataclass(frozen=True)
class Arm:
    """The contents of one arm file.

    Attributes:
        name: name of the arm.
        tables: tables of the file, by section.
    """

    name: str
    tables: Mapping[str, Any]

    def __getitem__(self, section: str) -> Mapping[str, Any]:
        """One section; empty if missing."""
        return self.tables.get(section, {})


@dataclass(frozen=True)
class Pretraining:
    """The pretraining that a run starts from.

    Attributes:
        stream: data and epochs. The run number is that of the run that starts from it.
        method: CRUMB in pretraining.
        parts: the parts that the run loads.
    """

    stream: StreamConfig
    method: CrumbConfig
    parts: PretrainedParts = "both"


@dataclass(frozen=True)
class Settings:
    """The settings of the runs of an arm.

    Attributes:
        stream: settings of the stream, without the pretrained file.
        network: backbone of stream and pretraining.
        method: configuration of the method in the stream.
        pretraining: the pretraining, or None to start from the stock weights.
    """

    stream: StreamConfig
    network: NetworkConfig
    method: CrumbConfig
    pretraining: Pretraining | None


def arms() -> dict[str, Arm]:
    """All arms by name, the unablated run first.

    Raises:
        InputError: an arm file is damaged or has unknown contents.
    """
    found = {path.stem: path for path in _ARMS.glob("*.toml")}
    names = sorted(found, key=lambda name: (name != UNABLATED, _natural(name)))
    known: dict[str, Arm] = {}
    for name in names:
        tables = read_toml(found[name], "install the package again")
        _check_keys(found[name], tables)
        beside = tables.get("about", {}).get("beside", UNABLATED)
        if beside not in found:
            problem = f"refers to {beside}, which is not an arm"
            raise InputError(found[name], problem, "name another arm")
        known[name] = Arm(name, tables)
    return known


def _check_keys(path: Path, tables: Mapping[str, Any]) -> None:
    sections = dict(tables)
    pretrain = tables.get("pretrain")
    if isinstance(pretrain, dict) and "method" in pretrain:
        sections["pretrain.method"] = pretrain["method"]
    for section, table in sections.items():
        if section not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise InputError(path, f"has an unknown section {section}", f"use {known}")
        if not isinstance(table, dict):
            raise InputError(path, f"{section} is not a section", f"write [{section}]")
        for key in table:
            if key not in SECTIONS[section]:
                known = ", ".join(SECTIONS[section])
                problem = f"has an unknown key {key} in {section}"
                raise InputError(path, problem, f"use {known}")


def _natural(name: str) -> list[tuple[str, int]]:
    """Sort numbers by value: 2 before 16."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D+)(\d*)", name)]


def unablated(config: AblateConfig, network: NetworkConfig, method: CrumbConfig) -> Settings:
    """The settings of the unablated run.

    Args:
        config: configuration of the study, with the streamed classes.
        network: configuration of the backbone.
        method: configuration of the method in the stream.

    Raises:
        InputError: the settings use no codebook.
    """
    if method.storage != "feature":
        problem = "has no memory blocks, which the study needs"
        raise InputError(setting("storage", method.storage), problem, "leave it out")
    stream = StreamConfig(**shared_settings(ProtocolConfig, config), method="crumb", resume=True)
    pretraining = StreamConfig(
        dataset=config.pretrain_dataset or config.dataset,
        protocol="iid",
        classes=config.pretrain_classes,
        batch_size=config.pretrain_batch_size,
        epochs_first_task=config.pretrain_epochs,
        on_error=config.on_error,
        evaluation=EvaluationConfig(
            config.evaluation.top_k, config.evaluation.test_batch_size, mem_accuracy=False
        ),
        machine=config.machine,
        checkpoint_minutes=config.checkpoint_minutes,
        checkpoint_batches=config.checkpoint_batches,
        resume=True,
    )
    losses = {"codebook_loss": 1.0, "direct_loss": 1.0, "frozen_blocks": False}
    memory = {"storage": "none", "write_policy": "end-of-task"}
    pretrain_method = adapted(method, **losses, **memory, replay_times=0)
    return Settings(stream, network, method, Pretraining(pretraining, pretrain_method))


def resolve(arm: Arm, base: Settings, config: AblateConfig, memory_bytes: int) -> Settings:
    """The settings of one arm.

    Args:
        arm: the arm.
        base: the unablated run.
        config: config of the study.
        memory_bytes: memory bytes of the exemplars of the unablated run.

    Raises:
        InputError: the arm needs a missing setting or contradicts other settings.
    """
    method = {**arm["method"], **_capacity(arm["arm"], base.method, memory_bytes)}
    if given := [name for name in CAPACITIES if name in method]:
        method |= {name: None for name in CAPACITIES if name not in given}
    pretraining = base.pretraining
    if not arm["arm"].get("pretraining", True):
        pretraining = None
    elif pretraining is not None:
        pretraining = _pretraining(arm, pretraining, config)
    return Settings(
        base.stream,
        _network(arm, base.network, config),
        adapted(base.method, **arm["codebook"], **method),
        pretraining,
    )


def _capacity(
    relative: Mapping[str, Any], method: CrumbConfig, memory_bytes: int
) -> dict[str, int]:
    """The capacity of an arm that is relative to the unablated run."""
    given = [name for name in CAPACITIES if getattr(method, name) is not None]
    name = given[0] if given else "memory_size"
    if share := relative.get("memory_share"):
        if name == "budget_bytes":
            # Part of it is the decoder of exemplars, which cannot be halved.
            return {"memory_bytes": max(1, int(memory_bytes * share))}
        return {name: max(1, int((getattr(method, name) or PAPER_MEMORY_SIZE) * share))}
    if relative.get("same_bytes") and name == "memory_size":
        return {"memory_bytes": memory_bytes}
    return {}


def _network(arm: Arm, network: NetworkConfig, config: AblateConfig) -> NetworkConfig:
    """The backbone of an arm. Another backbone has its own cut and weights."""
    changes = dict(arm["network"])
    if changes.get("backbone", network.backbone) != network.backbone:
        own_weights = {} if network.weights == "random" else {"weights": "pretrained"}
        changes |= {"cut": None, **own_weights}
    if "cut" in arm["arm"]:
        cut = config.early_cut
        if cut is None:
            cut = arm["arm"]["cut"].get(network.backbone)
        if cut is None:
            problem = f"has no early cut for {setting('backbone', network.backbone)}"
            raise InputError(
                f"arm {arm.name}", problem, f"name a layer with {setting('early_cut')}"
            )
        changes["cut"] = cut
    return replace(network, **changes)


def _pretraining(arm: Arm, base: Pretraining, config: AblateConfig) -> Pretraining:
    own = arm["pretrain"]
    stream = replace(base.stream, epochs_first_task=own.get("epochs", config.pretrain_epochs))
    if own.get("data") == "cifar100":
        if config.cifar100 is None:
            problem = "pretrains on another data set"
            raise InputError(
                f"arm {arm.name}", problem, f"give its folder with {setting('cifar100')}"
            )
        stream = replace(stream, dataset=config.cifar100, classes=())
    method = adapted(base.method, **arm["codebook"], **own.get("method", {}))
    return Pretraining(stream, method, own.get("parts", base.parts))
