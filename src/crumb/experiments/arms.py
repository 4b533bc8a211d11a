"""The arms of an ablation study: the changes of each to the unablated run.

An arm is a TOML file with the differences only. Those of CRUMB are after the ablations of Talbot et
al. 2025, and only they have all sections. Another method has a folder of arms with its name, and in
its files the sections ``about``, ``method`` and ``times``.

====================  ==============================================================================
section               what it changes
====================  ==============================================================================
``about``             nothing: what the arm shows, the original's scripts and the name in its
                      README, where the two differ; the arm that it is ``beside``, if it differs
                      from the unablated run in two things
``network``           the backbone, of pretraining and stream
``codebook``          blocks, their length and initial values, of pretraining and stream
``method``            the method in the stream
``times``             numbers of the method, multiplied by these factors
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
from typing import Annotated, Any, Literal, get_args

from crumb.errors import InputError, meant, setting
from crumb.files import read_toml
from crumb.kinds import Argument
from crumb.memory.capacity import CAPACITIES, PAPER_MEMORY_SIZE
from crumb.methods.crumb_config import CrumbConfig, adapted
from crumb.methods.facts import facts
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
AblatedMethod = Literal["crumb", "crumb2"]
ABLATED: tuple[str, ...] = get_args(AblatedMethod)
"""Methods that have arms."""
CRUMB = "crumb"
"""The only one of them whose runs start from a pretraining."""
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
"""Allowed keys in the file of an arm of CRUMB, by section."""
# Flags that apply to a single arm, and those that apply to CRUMB only.
_FOR_ONE = {"cifar100": "cifar100_pretraining", "early_cut": "early_cut"}
_FOR_CRUMB = (
    *("pretrain_classes", "pretrain_dataset", "pretrain_epochs", "pretrain_batch_size"),
    *_FOR_ONE,
)


@dataclass(frozen=True)
class AblateConfig(ProtocolConfig):
    """Ablation study: run a method with one thing changed at a time and compare with the unablated
    run.
    """

    dataset: Path
    """Folder written by `crumb index`."""
    arms: Annotated[tuple[str, ...], Argument(positional=True, metavar="ARM ...")] = ()
    """Arms to run, by name (see `crumb ablate list`), or all."""
    method: AblatedMethod = CRUMB
    """Method to ablate. Only crumb is pretrained first."""
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
    set>/ablate_<protocol>_<mode>_<backbone>, or ablate_crumb2_... for crumb2."""

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
        """Refuse flags of arms that were not requested, or of another method."""
        if self.early_cut == "":
            raise InputError(setting("early_cut"), "is empty", "name one, or leave it out")
        for own in () if self.method == CRUMB else _FOR_CRUMB:
            if getattr(self, own) != getattr(AblateConfig, own):
                problem = f"has no effect with {setting('method', self.method)}"
                raise InputError(setting(own), problem, "leave one of them out")
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
        known = arms(self.method)
        listing = "crumb ablate list"
        if self.method != CRUMB:
            listing += f" --method {self.method}"
        if self.arms == (ALL,):
            return tuple(name for name in known if name != UNABLATED)
        if not self.arms:
            remedy = f"name one or more, or all; {listing} names them"
            raise InputError("crumb ablate", "ARM is missing", remedy)
        if ALL in self.arms:
            raise InputError(
                "crumb ablate all", "already includes all arms", "leave out the other names"
            )
        for name in self.arms:
            if name not in known:
                problem = f"no such arm{meant(name, known)}"
                raise InputError(f"crumb ablate {name}", problem, f"see {listing}")
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
    method: Any
    pretraining: Pretraining | None


def arms(method: str = CRUMB) -> dict[str, Arm]:
    """All arms of a method by name, the unablated run first.

    Raises:
        InputError: an arm file is damaged or has unknown contents.
    """
    folder, allowed = _ARMS, SECTIONS
    if method != CRUMB:
        folder, own = _ARMS / method, tuple(facts(method).defaults)
        allowed = {"about": SECTIONS["about"], "method": own, "times": own}
    found = {path.stem: path for path in folder.glob("*.toml")}
    names = sorted(found, key=lambda name: (name != UNABLATED, _natural(name)))
    known: dict[str, Arm] = {}
    for name in names:
        tables = read_toml(found[name], "install the package again")
        _check_keys(found[name], tables, allowed)
        beside = tables.get("about", {}).get("beside", UNABLATED)
        if beside not in found:
            problem = f"refers to {beside}, which is not an arm"
            raise InputError(found[name], problem, "name another arm")
        known[name] = Arm(name, tables)
    return known


def _check_keys(
    path: Path, tables: Mapping[str, Any], allowed: Mapping[str, tuple[str, ...]]
) -> None:
    sections = dict(tables)
    pretrain = tables.get("pretrain")
    if isinstance(pretrain, dict) and "method" in pretrain:
        sections["pretrain.method"] = pretrain["method"]
    for section, table in sections.items():
        if section not in allowed:
            known = ", ".join(allowed)
            raise InputError(path, f"has an unknown section {section}", f"use {known}")
        if not isinstance(table, dict):
            raise InputError(path, f"{section} is not a section", f"write [{section}]")
        for key in table:
            if key not in allowed[section]:
                known = ", ".join(allowed[section])
                problem = f"has an unknown key {key} in {section}"
                raise InputError(path, problem, f"use {known}")


def _natural(name: str) -> list[tuple[str, int]]:
    """Sort numbers by value: 2 before 16."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D+)(\d*)", name)]


def unablated(config: AblateConfig, network: NetworkConfig, method: Any) -> Settings:
    """The settings of the unablated run.

    Args:
        config: configuration of the study, with the streamed classes.
        network: configuration of the backbone.
        method: configuration of the method in the stream.

    Raises:
        InputError: the settings of CRUMB use no codebook.
    """
    shared = shared_settings(ProtocolConfig, config)
    stream = StreamConfig(**shared, method=config.method, resume=True)
    if config.method != CRUMB:
        return Settings(stream, network, method, None)
    if method.storage != "feature":
        problem = "has no memory blocks, which the study needs"
        raise InputError(setting("storage", method.storage), problem, "leave it out")
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
    if config.method != CRUMB:
        changes = {n: factor * getattr(base.method, n) for n, factor in arm["times"].items()}
        return replace(base, method=replace(base.method, **arm["method"], **changes))
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
