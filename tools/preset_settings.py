"""The table of the published settings, row by row, as settings of ours."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from crumb.errors import InputError
from crumb.files import read_text
from crumb.nets.backbones import BACKBONES

METHODS = {
    "CRUMB": "crumb",
    "CRUMB_block_length_32": "crumb",
    "CRUMB_unlimited_memory": "crumb",
    "lower_bound": "finetune",
    "upper_bound": "offline",
    "L2": "l2",
    "EWC": "ewc",
    "SI": "si",
    "MAS": "mas",
    "LwF": "lwf_mc",
    "Stable_SGD": "stable_sgd",
    "NaiveRehearsal": "er",
    "GEM": "gem",
    "GEM_unlimited_memory": "gem",
    "AGEM": "agem",
    "iCARL": "icarl",
    "iCARL_unlimited_memory": "icarl",
    "BiC": "bic",
    "GSS_Greedy": "gss",
    "CoPE": "cope",
    "Rainbow_Memory": "rainbow",
    "AANets(iCaRL)": "aanets",
    "REMIND": "remind",
    "REMIND_unlimited_memory": "remind",
    "REMIND_random_codebook": "remind",
}
"""Names of methods in the table, and ours: of what its program computes."""

NAMES = {"lwf_mc": "lwf"}
"""How presets are called, where that is not by our name of the method."""

PENALTIES = ("l2", "ewc", "si", "mas")
"""Their programs train all outputs that have been met, at each task."""

NO_PRESET = {
    "CRUMB_eval": "only tests saved models",
    "CRUMB_sample_first_batch": "takes the network but not the codebook of a pretraining",
    "CRUMB[pt_weights_only]": "takes the network but not the codebook of a pretraining",
    "CRUMB[pt_memblocks_only]": "takes the codebook but not the network of a pretraining",
    "CRUMB[pt_freeze_memory]": "freezes the codebook",
    "lower_bound_freeze": "trains the last layer only",
    "REMIND_ResNet18_legacy": "is refused by the program that it starts",
}
"""By the beginning of a method's name."""

LAYOUTS = {
    "core50": {"classes_per_task": 2, "images_per_task": 1200, "clips_per_task": 80},
    "toybox": {"classes_per_task": 2, "images_per_task": 6090, "clips_per_task": 406},
    "ilab2mlight": {"classes_per_task": 2, "images_per_task": 5040, "clips_per_task": 336},
    "cifar100": {"classes_per_task": 5, "images_per_task": 2500, "clips_per_task": 5},
    "imagenet": {"classes_per_task": 100, "clips_per_task": 100},
    "ilab2mlight+core50": {"classes_per_task": 2},
    "icubworldtransf": {"classes_per_task": 2},
}
"""Sizes of the tasks, from the scripts that set them up; the table does not hold them."""

EXTRA = {
    "n_memories": "n_memories",
    "n_constraints": "n_constraints",
    "memory_strength": "memory_strength",
    "n_iter": "n_iter",
    "p_momentum": "prototype_momentum",
    "loss_T": "temperature",
    "distill_T": "temperature",
    "bias_optimizer": "bias_lr",
    "fusion_lr": "fusion_lr",
    "icarl_beta": "distillation",
    "icarl_T": "temperature",
    "gamma": "gamma",
    "lr_floor": "lr_floor",
    "rehearsal_samples_per_update": "rehearsal_samples_per_update",
    "pq_codebooks": "pq_codebooks",
    "pq_centroids": "pq_centroids",
    "mixup_alpha": "mixup_alpha",
    "random_resized_crops": "random_resized_crops",
    "schedule": "schedule",
    "memory_only_epochs_after_first_task": "memory_only_epochs",
}
"""Settings of a method that the table has among its other facts, and our names of them."""

CUTMIX = 0.5
"""How often Rainbow Memory mixes images; its program says so, not its scripts."""

BACKBONE_NAMES = {"SqueezeNet1_0": "squeezenet1_0", "MobileNetV2": "mobilenet_v2"}

Sections = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    cells: Mapping[str, str]

    def __getattr__(self, name: str) -> str:
        return self.cells[name]

    @cached_property
    def facts(self) -> dict[str, str]:
        """The pairs of the column ``other``."""
        pairs = (pair.partition("=") for pair in self.cells["other"].split(";"))
        return {key.strip(): value for key, _, value in pairs}

    @property
    def backbone(self) -> str:
        """Our name of the network, which is the paper's where the method has one of its own."""
        return BACKBONE_NAMES.get(self.cells["backbone"], "squeezenet1_0")

    @property
    def variant(self) -> str | None:
        """What stands in square brackets behind the method."""
        found = re.search(r"\[(.+)\]", self.cells["method"])
        return found[1] if found else None

    @property
    def pretrains(self) -> bool:
        """Whether the row is of a pretraining."""
        return self.cells["method"].startswith("CRUMB_pretrain")

    @property
    def ours(self) -> str:
        """Our name of the method."""
        method = self.cells["method"]
        return METHODS.get(method) or METHODS[method.partition("[")[0].partition("_pre")[0]]

    @property
    def preset(self) -> str:
        """Name of the preset, but for the protocol."""
        if self.pretrains:
            return f"pretrain/ablation/{self.variant}" if self.variant else f"pretrain/{self.where}"
        if self.variant:
            return f"{self.where}/ablation/{self.variant}"
        suffix = re.search("_(unlimited_memory|block_length_32|random_codebook)$", self.method)
        return f"{self.where}/{NAMES.get(self.ours, self.ours)}{suffix[0] if suffix else ''}"

    @property
    def where(self) -> str:
        """The data set."""
        return self.cells["dataset"]


def read_table(path: Path) -> list[Row]:
    """The rows of a table.

    Raises:
        InputError: unreadable, or a column is missing.
    """
    reader = csv.DictReader(read_text(path, "give the table of the settings").splitlines())
    wanted = ("dataset", "method", "protocol", "backbone", "lr", "memory_size", "other", "source")
    for column in wanted:
        if column not in (reader.fieldnames or ()):
            raise InputError(path, f"has no column {column!r}", "give the table of the settings")
    return [Row(cells) for cells in reader]


def why_not(row: Row) -> str | None:
    """Why no preset stands for a row; None if one does."""
    for beginning, reason in NO_PRESET.items():
        if row.method.startswith(beginning):
            return reason
    if row.where not in LAYOUTS:
        return "is of no data set of ours"
    if not row.protocol:
        return "names no protocol"
    if "no class_instance file lists" in row.facts.get("note", ""):
        return "starts a protocol that was never laid out"
    if "not in the folder" in row.facts.get("note", ""):
        return "starts a program that is not there"
    return None


def number(text: str) -> Any:
    """The first number in a text, whole if it is written so; else the text."""
    found = re.search(r"-?[0-9.]+(?:e-?[0-9]+)?", text)
    if not found:
        return text
    return int(found[0]) if found[0].isdigit() else float(found[0])


def sections(row: Row, base: Row | None = None) -> Sections:
    """The settings of a row, by the section of the preset.

    Args:
        row: of the table.
        base: the row of the first stage, for REMIND.
    """
    if row.pretrains:
        stream = {"epochs": number(row.epochs_first_task), "batch_size": number(row.batch_size)}
        return {"pretrain": stream, "network": _network(row, base), "method": _crumb(row)}
    first = row.epochs_first_task or (base.epochs_first_task if base else row.epochs_other)
    stream = {
        "method": row.ours,
        "batch_size": number(row.batch_size),
        "epochs_first_task": number(first),
        "epochs": number(row.epochs_other),
    }
    method = _crumb(row) if row.ours == "crumb" else _other(row, base)
    return {
        "stream": stream,
        "stream.layout": LAYOUTS[row.where],
        "network": _network(row, base),
        "method": method,
    }


def _network(row: Row, base: Row | None) -> dict[str, Any]:
    network: dict[str, Any] = {"backbone": row.backbone}
    if row.backbone == "squeezenet1_0" and row.facts.get("cut_layer", "12") != "12":
        network["cut"] = f"features.{row.facts['cut_layer']}"
    if base and base.facts.get("imagenet_pretrained_backbone") == "0":
        network["weights"] = "random"
    if "dropout" in row.facts:
        network["dropout"] = number(row.facts["dropout"])
    return network


def _crumb(row: Row) -> dict[str, Any]:
    """Settings of CRUMB; those that stand for the paper's own are left out, but for the rates."""
    facts = row.facts
    method = {name: number(row.cells[name]) for name in ("lr", "momentum", "weight_decay")}
    storage = facts.get("storage_type", "feature")
    if not row.pretrains:
        if storage != "merec":
            method["memory_size"] = number(row.memory_size)
        method["replay_times"] = number(row.replay_times)
        if method["replay_times"]:
            method["replay_coefficient"] = number(row.replay_coef)
    # Pretraining with stored images is pretraining without the codebook's loss.
    if storage != "feature" and row.pretrains:
        return method | {"codebook_loss": 0}
    if storage != "feature":
        return method | {"storage": storage}
    method["blocks"] = number(row.n_memory_blocks)
    backbone = BACKBONES[row.backbone]
    if (length := number(row.memory_block_length)) != backbone.block_length:
        method["block_length"] = length
    # A stream that starts from a pretraining has no use for an initialiser.
    if facts["model_weights"] == "none" and facts["memory_init"] != backbone.initialiser:
        method["initialiser"] = facts["memory_init"]
    if "direct_loss_only" in facts:
        method["codebook_loss"] = 0
    if facts.keys() & {"direct_loss_only", "plus_direct_loss"}:
        method["direct_loss"] = 1
    if "pt_only_codebook_out_loss" in facts:
        method["direct_loss"] = 0
    return method


def _other(row: Row, base: Row | None) -> dict[str, Any]:
    """Settings of any other method, the same for all first."""
    names = ("lr", "momentum", "weight_decay", "memory_size")
    # Its program has neither, and so no cells for them.
    cells = {**row.cells, "momentum": "0", "weight_decay": "0"} if row.ours == "gss" else row.cells
    method = {name: number(cells[name]) for name in names if cells[name]}
    if method.get("memory_size") == 0:
        del method["memory_size"]
        method["storage"] = "none"
    if row.reg_coef:
        method["margin" if row.ours == "gem" else "regularisation"] = number(row.reg_coef)
    if row.ours in PENALTIES:
        method["trained_outputs"] = "all"
    for fact, setting in EXTRA.items():
        if fact in row.facts:
            method[setting] = _setting(fact, row.facts[fact])
    if "cutmix" in row.facts.get("transforms", ""):
        method["cutmix_probability"] = CUTMIX
    if "pq_centroids_source" in row.facts:
        method["pq_centroids_source"] = "crumb"
    if base:
        for name in ("lr", "weight_decay", "batch_size"):
            method[f"base_{name}"] = number(base.cells[name])
    return method


def _setting(fact: str, text: str) -> Any:
    return text == "1" if fact == "random_resized_crops" else number(text)


@dataclass(frozen=True)
class Group:
    """The rows that one preset stands for.

    Attributes:
        chosen: one for each protocol.
        others: of other scripts for the same, or for the same but not working.
        refused: protocols that are started but were never laid out.
        base: first stage of REMIND.
    """

    chosen: Sequence[Row]
    others: Sequence[Row] = ()
    refused: Sequence[Row] = ()
    base: Row | None = None


def flat(parts: Sections) -> dict[str, Any]:
    """The settings by section and key."""
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
