"""What a reader of a preset should know besides its settings, in words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from tools.preset_settings import BACKBONE_NAMES, Group, Row, flat, number, sections, why_not

from crumb.errors import flag_of

DATASET_NOTES = {
    "cifar100": "The original lays out class_iid only.",
    "imagenet": "The original lays out class_iid only and so sets no size of iid tasks: iid gets "
    "as many as class_iid.",
    "ilab2mlight+core50": "The original lays out class_iid and class_instance only. Its class "
    "orders hold a class that has no images (semi) and leave out a class that has, in seven of "
    "ten runs.",
    "icubworldtransf": "The original lays out class_iid and class_instance only. Its classes are "
    "numbered in the order in which the file system lists their folders, so its class orders "
    "differ between machines.",
}
METHOD_NOTES = {
    "ewc": "It squares the gradient of the mean of a batch instead of that of each "
    "image, and takes the network's own answers for labels.",
    "si": "It forgets the path after every epoch, so that of the first task only the "
    "last reading counts.",
    "mas": "It adds to the importance after every epoch, so that a task that is read "
    "twice counts twice.",
    "lwf_mc": "The original calls it LwF; its loss is that of LwF-MC. It goes on with one network "
    "through all its runs: only run 0 starts anew.",
    "stable_sgd": "The original's program for toybox is told the task when it is tested; that for "
    "cifar100 is told it in training.",
    "er": "It is called naive rehearsal there, and stops with an error in the first task.",
    "gem": "It never fills its memory, and so is no more than fine-tuning. The "
    "capacity counts images.",
    "agem": "It compares gradients with that of the whole memory instead of one batch "
    "of it. The capacity counts images.",
    "icarl": "Its exemplars come in another order than the scores they are compared with, end a "
    "task as soon as they have all been replayed, and outgrow the capacity, which counts images.",
    "bic": "It keeps one image to train on and one to validate on of each class, "
    "whatever its capacity says, and runs with 20 tasks only.",
    "gss": "The capacity counts images; n_memories are those that wait to be chosen from.",
    "cope": "The original has no script for it: these are the defaults of its program, which does "
    "not run on this data set. Their capacity, which counts exemplars of one class, is 0. Its "
    "temperature of prototypes (Tp) is used for nothing.",
    "rainbow": "The original tests every run on the labels of run 0 of class_iid, and reports the "
    "best epoch on TEST images, augments images (AutoAugment, CutMix), and reads the memory of the "
    "first task as often as that task; here maps are mixed, and memory_only_epochs hold for all. "
    "The capacity counts images.",
    "aanets": "The original casts normalised images to bytes, which destroys them. Its learning "
    "rate falls to a tenth after half and after three quarters of a task's epochs; here it is "
    "constant. The capacity counts images.",
    "remind": "The first task is learned with base_lr and the like, in the original by the whole "
    "network, here by the tail; then codes are streamed one image at a time. The original keeps "
    "all codes of the first task whatever the capacity says, and goes back to the best epoch on "
    "TEST images.",
}
# Those that train what follows the cut alone in the original, too.
WITH_FROZEN_FRONT = ("crumb", "remind")
_OUR_TRAINING = (
    "the tail is trained unless --trainable all is given, and gradients are clipped at 10"
)
# What is not of this kind is of interest to those who start the original only.
_SAID = {
    "lr": "lr",
    "batch_size": "batch_size",
    "epochs_first_task": "epochs_first_task",
    "memory_size": "memory_size",
    "reg_coef": "regularisation",
}
_PRETRAINED = {
    "crumb_imagenet_pretrain": "pretrain/imagenet",
    "crumb_imagenet_pretrain_run0": "pretrain/imagenet",
    "imagenet_pretrain_distmatch_sparse": "pretrain/ablation/imagenet_unablated",
    "imagenet_pretrain_MobileNet_normal": "pretrain/ablation/imagenet_MobileNet_normal",
    "imagenet_pretrain_cutlayer_3": "pretrain/ablation/imagenet_cutlayer_3",
    "imagenet_pretrain_32_augmem_feat": "pretrain/ablation/imagenet_n_codebook_feat",
    "cifar100_pretrain": "pretrain/ablation/cifar100",
}
# Channels and side of the feature maps.
_MAPS = {("squeezenet1_0", "12"): (512, 13), ("squeezenet1_0", "3"): (96, 54)}
_MOBILENET_MAPS = (64, 14)
_IMAGE_BYTES = 3 * 224 * 224
_UNLIMITED = 10**8


def note(group: Group) -> str:
    """What a reader should know: runs, where ours departs, what other scripts have."""
    row = group.chosen[0]
    runs = _runs(group.chosen) + _start(row)
    parts = [runs and f"{runs}.", *_sizes(row), *_departures(row)]
    if row.ours == "crumb" and row.variant:
        parts += _of_variant(row)
    parts.append(METHOD_NOTES.get(row.ours, ""))
    if "pq_centroids_source" in row.facts:
        parts.append("The centroids are not fitted: each part has CRUMB's first memory blocks.")
    parts += [*_defaults(row), *_other_scripts(group)]
    if not row.pretrains:
        parts.append(DATASET_NOTES.get(row.where, ""))
    if group.refused:
        parts.append("Its script starts class_instance as well, for which it has no lists.")
    return textwrap.fill(" ".join(filter(None, parts)), 96, break_on_hyphens=False)


def _runs(rows: Sequence[Row]) -> str:
    texts = {row.protocol: _run_text(row) for row in rows}
    if len(set(texts.values())) == 1:
        return _run_text(rows[0])
    return ", ".join(f"{text} of {protocol}" for protocol, text in texts.items())


def _run_text(row: Row) -> str:
    facts = row.facts
    if row.pretrains and not row.variant:
        return "Run 0, the default"
    if row.pretrains or "one_run_per_call" in facts:
        return "One run per call, run 0 by default"
    if count := facts.get("n_runs") or facts.get("n_seeds"):
        return f"{count} run{'s' if count != '1' else ''} (--runs {count})"
    given = facts.get("specific_runs") or facts.get("runs") or ""
    numbers = [int(digits) for digits in re.findall("[0-9]+", given)]
    if not numbers:
        return ""
    first, last = numbers[0], numbers[-1]
    if first == last:
        return f"Run {first} only"
    start = f"--first-run {first} " if first else ""
    return f"Runs {first} to {last} ({start}--runs {last - first + 1})"


def _start(row: Row) -> str:
    """How a stream of CRUMB begins."""
    path = row.facts.get("weights_path")
    if row.pretrains or row.ours != "crumb":
        return ""
    if path is None:
        blocks = "" if "codebook_unused" in row.facts else " and new memory blocks"
        return f", from torchvision's weights{blocks}: no --pretrained"
    preset = _PRETRAINED[path.partition("/")[0]]
    data = preset.rpartition("/")[2].partition("_")[0].upper()
    command = f"`crumb pretrain {data} --preset {preset}`"
    if "{r}" in path:
        return (
            f", run R from network and codebook of {command} with --run R: one call for each, "
            "--first-run R with that file as --pretrained"
        )
    return (
        f", each starting from network and codebook of run 0 of {command}: give that file with "
        "--pretrained"
    )


def _sizes(row: Row) -> Iterator[str]:
    """What the capacity of CRUMB is in bytes."""
    if row.pretrains or row.ours != "crumb" or row.facts["storage_type"] == "merec":
        return
    if row.replay_times == "0":
        return
    count = number(row.memory_size)
    if count >= _UNLIMITED:
        yield "The capacity is more than there are images: nothing is ever dropped."
    elif row.facts["storage_type"] == "image":
        yield f"{count:,} images have {count * _IMAGE_BYTES:,} bytes."
    else:
        maps = _MAPS.get((row.backbone, row.facts["cut_layer"]), _MOBILENET_MAPS)
        size = maps[0] * maps[1] ** 2 // number(row.memory_block_length)
        room = round(count * size / _IMAGE_BYTES)
        yield (
            f"{count:,} codes of {size:,} bytes have the room of {room:,} images; the original "
            "holds each index in eight bytes, we in one."
        )


def _departures(row: Row) -> Iterator[str]:
    """Where the original and ours differ in what no setting says."""
    if row.pretrains:
        if (row.variant or "").endswith(("no_direct_loss", "vanilla")):
            return
        yield (
            "We train on the sum of both losses, as the paper means; the released code inverts a "
            "flag and trains on the loss of the reconstruction alone."
        )
    elif row.cells["backbone"] not in BACKBONE_NAMES:
        images = f", its images {_side(row)}" if row.image_size else ""
        yield (
            f"The original's network is {row.cells['backbone'].partition(' (')[0]}{images}; here "
            "it is that of all methods, for which these rates were not chosen, and "
            f"{_OUR_TRAINING}."
        )
    elif row.ours in WITH_FROZEN_FRONT:
        if row.image_size != "224":
            yield f"The original reads images of {_side(row)}."
    else:
        small = f", and reads images of {_side(row)}" if row.image_size != "224" else ""
        if row.source.startswith("scripts/"):
            small = f" and clips no gradient{small}"
        yield f"The original trains the whole network{small}; here {_OUR_TRAINING}."
    best = {"keep_best_net_all_tasks": "each", "keep_best_task1_net": "the first"}
    if task := next((best[fact] for fact in best if fact in row.facts), None):
        yield (
            f"It goes back to the best epoch of {task} task, chosen on TEST images, which we do "
            "not; --select-best-epoch chooses on held-out training images, for every task."
        )


def _side(row: Row) -> str:
    return f"{row.image_size} x {row.image_size}"


def _of_variant(row: Row) -> Iterator[str]:
    """What is peculiar to a variant of CRUMB."""
    variant = row.variant or ""
    if variant.endswith("var_mem_cap"):
        yield "The script is called with several capacities (--memory-size)."
    if "plus_direct_loss" in variant:
        yield "In the released code this changes nothing."
    if variant.endswith("image_replay"):
        yield "The capacity is that of the codes in number, not in bytes."
    if "no_direct_loss" in variant:
        yield (
            "It is meant to train on the loss of the reconstruction alone; the released code "
            "inverts the flag."
        )
    if variant.endswith("vanilla"):
        yield (
            "It trains on the direct loss alone, without a codebook; here there is one, which "
            "stays as it began."
        )
    usual = "21" if row.where != "imagenet" else "128"
    if row.where == "cifar100" and not row.pretrains and row.batch_size == usual:
        yield "The unablated script has batches of 128, so two things differ from it."


def _defaults(row: Row) -> Iterator[str]:
    """What the script leaves to the program."""
    names = row.facts.get("from_code_defaults", "").split("+")
    # The upper bound reads the first task as often as any other.
    said = [
        _SAID[name]
        for name in names
        if name in _SAID and (row.ours, name) != ("offline", "epochs_first_task")
    ]
    if said:
        verb = "is the program's default" if len(said) == 1 else "are the program's defaults"
        yield f"The script does not set {' and '.join(said)}: what stands here {verb}."


def _other_scripts(group: Group) -> Iterator[str]:
    """Where else the same is started, and with which other settings."""
    known = flat(sections(group.chosen[0], group.base))
    said = set()
    for row in group.others:
        flags = [
            f"{flag_of(key.rpartition('.')[2])} {value}"
            for key, value in flat(sections(row, group.base)).items()
            if known.get(key) != value
        ]
        if why_not(row):
            own = "Another line of the script, which starts a program that is not there,"
        else:
            own = f"{row.source}, which starts this data set too,"
        said.add(f"{own} has {' '.join(flags) or 'the same settings'}.")
    yield from sorted(said)
