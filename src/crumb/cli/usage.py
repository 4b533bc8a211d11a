"""The help of a command: its most used flags in groups, and two examples."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from crumb.cli.flags import METHOD_SETTINGS, Flag

_FEW = 12
_INDENT, _WIDEST = 30, 110

_NETWORK = ("backbone", "cut", "weights", "engine")
_METHOD = ("method", "budget_bytes", "memory_size", "storage", "dimensions", "lr", "write_policy")
_STREAM = ("protocol", "mode", "classes", "classes_per_task", "epochs_first_task", "epochs")
_RUNS = ("runs", "output")
_METHOD_TITLE = f"more {METHOD_SETTINGS}"
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "stream": {
        "data": ("dataset", *_STREAM, "batch_size"),
        "method and network": (*_METHOD, *_NETWORK),
        "runs and output": (*_RUNS, "preset", "resume", "device"),
    },
    "compare": {
        "data": ("dataset", *_STREAM, "batch_size"),
        "method and network": ("methods", "budget_bytes", "settings", *_NETWORK),
        "runs and output": (*_RUNS, "device", "precision", "mem_accuracy"),
    },
    "ablate": {
        "data": ("dataset", *_STREAM, "pretrain_classes", "pretrain_epochs"),
        "method and network": ("arms", "method", "budget_bytes", "memory_size", "lr", *_NETWORK),
        "runs and output": (*_RUNS, "device"),
    },
    "tune": {
        "data": ("dataset", *_STREAM),
        "method and network": (
            "method",
            "trials",
            "tasks",
            "budget_bytes",
            "memory_size",
            *_NETWORK,
        ),
        "output": ("output", "device"),
    },
    "pretrain": {
        "data": ("dataset", "classes", "epochs", "batch_size"),
        "method and network": ("lr", "initialiser", "blocks", "block_length", *_NETWORK),
        "output": ("run", "output", "device"),
    },
    "learn": {
        "data": ("root", "table", "only", "resize", "hold_back"),
        "method and network": (*_METHOD[:3], "dimensions", *_NETWORK),
        "output": ("output", "device"),
    },
}
"""The most used flags, in groups, of commands with many flags."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "learn": ("crumb learn my-videos", "crumb learn my-videos --output kitchen.crumb --method ncm"),
    "teach": ("crumb teach kitchen.crumb bed bed.mp4", "crumb teach kitchen.crumb --undo"),
    "predict": ("crumb predict kitchen.crumb bed.mp4", "crumb predict kitchen.crumb camera:0"),
    "forget": ("crumb forget kitchen.crumb bed", "crumb forget 'my kitchen.crumb' 'table lamp'"),
    "info": ("crumb info kitchen.crumb", "crumb info results/learner_run0.safetensors"),
    "export": ("crumb export kitchen.crumb", "crumb export kitchen.crumb --output device"),
    "demo": ("crumb demo", "crumb demo my-demo --runs 5"),
    "index folder": (
        "crumb index folder my-videos --dry-run",
        "crumb index folder my-videos --split object --output my-data",
    ),
    "tasks": ("crumb tasks my-data", "crumb tasks my-data --protocol class_iid --runs 3"),
    "pretrain": (
        "crumb pretrain my-data --classes car lamp --epochs 5",
        "crumb pretrain imagenet-data --preset pretrain/imagenet",
    ),
    "stream": ("crumb stream my-data --runs 3", "crumb stream my-data --method er --mode strict"),
    "compare": (
        "crumb compare --dataset my-data --methods crumb er icarl --budget-bytes 120000",
        "crumb compare --dataset my-data --methods all --runs 5",
    ),
    "ablate": ("crumb ablate list", "crumb ablate no_replay --dataset my-data"),
    "ablate --method crumb2": (
        "crumb ablate list --method crumb2",
        "crumb ablate no_anchor no_axes --method crumb2 --dataset my-data",
    ),
    "tune": ("crumb tune er --dataset my-data", "crumb tune crumb --dataset my-data --trials 40"),
    "runs": ("crumb runs outputs", "crumb runs outputs --csv runs.csv"),
    "report": ("crumb report results/compared", "crumb report results/* -o report.html"),
    "pareto": ("crumb pareto results/compared", "crumb pareto results/* -o results/front"),
    "analyse": (
        "crumb analyse results --dataset my-data",
        "crumb analyse results/learner_run0.safetensors --dataset my-data",
    ),
    "backbones": ("crumb backbones --measure", "crumb backbones resnet18 --cut layer4"),
    "bench": ("crumb bench", "crumb bench --rows step memory --json bench.json"),
}


def text(program: str, about: str, flags: Sequence[Flag], everything: bool) -> str:
    """The help of one command.

    Args:
        program: the command, ``crumb stream``.
        about: what it does.
        flags: all its flags.
        everything: show all flags, not only the most used ones.
    """
    name = program.removeprefix("crumb ")
    first = name.split()[0]
    groups = GROUPS.get(first, {}) if len(flags) > _FEW else {}
    if groups and name != first:
        own = [flag.name for flag in flags if flag.section == METHOD_SETTINGS]
        known = {one for names in groups.values() for one in names}
        groups = {**groups, _METHOD_TITLE: tuple(one for one in own if one not in known)}
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    shown = {one for names in groups.values() for one in names}
    lines = [_usage(program, flags), "", *_wrapped(about, width)]
    for title, members in _grouped(flags, groups, everything):
        lines += ["", f"{title}:", *(line for flag in members for line in _row(flag, width))]
    if examples := EXAMPLES.get(name, EXAMPLES.get(first, ())):
        lines += ["", "examples:", *(f"  {example}" for example in examples)]
    if groups and not everything:
        left = sum(flag.name not in shown for flag in flags)
        lines += ["", f"{program} --help-all shows the other {left} flags."]
    return "\n".join(lines)


def _usage(program: str, flags: Sequence[Flag]) -> str:
    words = [f"usage: {program}"]
    for flag in sorted(flags, key=lambda one: not one.positional):
        if flag.positional and not (flag.name == "method" and program != "crumb tune"):
            word = (
                f"{flag.metavar} ..." if flag.many and "..." not in flag.metavar else flag.metavar
            )
            words.append(word if flag.required else f"[{word}]")
        elif flag.required:
            words.append(f"{flag.word} {flag.metavar}")
    if any(not flag.positional and not flag.required for flag in flags):
        words.append("[--FLAG VALUE ...]")
    return " ".join(words)


def _grouped(
    flags: Sequence[Flag], groups: Mapping[str, Sequence[str]], everything: bool
) -> Iterator[tuple[str, list[Flag]]]:
    by_name = {flag.name: flag for flag in flags}
    for title, names in groups.items():
        if members := [by_name.pop(name) for name in names if name in by_name]:
            yield title, members
    if not groups and by_name:
        yield "arguments", [*by_name.values()]
    elif everything:
        for section in dict.fromkeys(flag.section for flag in by_name.values()):
            members = [flag for flag in by_name.values() if flag.section == section]
            yield f"more: {section[:1].lower()}{section[1:]}" if section else "more", members


def _row(flag: Flag, width: int) -> Iterator[str]:
    if flag.positional:
        head = flag.metavar
    elif flag.type == "bool":
        head = flag.word if flag.default == "no" else flag.word.replace("--", "--[no-]", 1)
    else:
        several = " ..." if flag.many else ""
        head = f"{flag.word} {flag.metavar}{several}"
    if flag.alias:
        head = f"{flag.alias}, {head}"
    default = f"[{flag.default}]" if flag.default and flag.type != "bool" else ""
    body = _wrapped(f"{flag.help} {default}".strip(), width - _INDENT)
    if len(head) + 2 > _INDENT - 2:
        yield f"  {head}"
    else:
        yield f"  {head:{_INDENT - 2}}{body.pop(0) if body else ''}".rstrip()
    yield from (f"{'':{_INDENT}}{line}" for line in body)


def _wrapped(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, max(width, 40), break_long_words=False, break_on_hyphens=False)
