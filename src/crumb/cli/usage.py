"""The help of a command: the flags most people use, grouped, and two examples."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from crumb.cli.flags import Flag

_FEW = 12
_INDENT, _WIDEST = 30, 110

_NETWORK = ("backbone", "cut", "weights", "engine")
_METHOD = ("method", "budget_bytes", "memory_size", "storage", "dimensions", "lr", "write_policy")
_STREAM = ("protocol", "mode", "classes", "classes_per_task", "epochs_first_task", "epochs")
_RUNS = ("runs", "output")
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "stream": {
        "what is learned": ("dataset", *_STREAM, "batch_size"),
        "by what": (*_METHOD, *_NETWORK),
        "how often, and where results go": (*_RUNS, "save_tasks", "device"),
    },
    "compare": {
        "what is learned": ("dataset", *_STREAM, "batch_size"),
        "by what": ("methods", "settings", "budget_bytes", *_NETWORK),
        "how often, and where results go": (*_RUNS, "device", "precision", "mem_accuracy"),
    },
    "ablate": {
        "what is learned": ("dataset", *_STREAM, "pretrain_classes", "pretrain_epochs"),
        "by what": ("arms", "memory_size", "lr", *_NETWORK),
        "how often, and where results go": (*_RUNS, "device"),
    },
    "tune": {
        "what is learned": ("dataset", *_STREAM),
        "by what": ("method", "trials", "tasks", "budget_bytes", "memory_size", *_NETWORK),
        "where results go": ("output", "device"),
    },
    "pretrain": {
        "what is learned": ("dataset", "classes", "epochs", "batch_size"),
        "by what": ("lr", "initialiser", "blocks", "block_length", *_NETWORK),
        "where results go": ("run", "output", "device"),
    },
    "learn": {
        "what is learned": ("root", "table", "only", "resize", "hold_back"),
        "by what": (*_METHOD[:3], "dimensions", *_NETWORK),
        "where the model goes": ("output", "device"),
    },
}
"""The flags most people use, in groups, for commands that take many."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "learn": ("crumb learn my-videos", "crumb learn my-videos --output kitchen.crumb --method ncm"),
    "teach": ("crumb teach kitchen.crumb bed bed.mp4", "crumb teach kitchen.crumb --undo"),
    "predict": ("crumb predict kitchen.crumb bed.mp4", "crumb predict kitchen.crumb camera:0"),
    "forget": ("crumb forget kitchen.crumb bed",),
    "info": ("crumb info kitchen.crumb",),
    "demo": ("crumb demo", "crumb demo my-demo --runs 5"),
    "index folder": (
        "crumb index folder my-videos --dry-run",
        "crumb index folder my-videos --split object --output my-data",
    ),
    "tasks": ("crumb tasks my-data", "crumb tasks my-data --protocol class_iid --runs 3"),
    "pretrain": ("crumb pretrain my-data --classes car lamp --epochs 5",),
    "stream": ("crumb stream my-data --runs 3", "crumb stream my-data --method er --mode strict"),
    "compare": (
        "crumb compare --dataset my-data --methods crumb er icarl --budget-bytes 120000",
        "crumb compare --dataset my-data --methods all --runs 5",
    ),
    "ablate": ("crumb ablate list", "crumb ablate no_replay --dataset my-data"),
    "tune": ("crumb tune er --dataset my-data", "crumb tune crumb --dataset my-data --trials 20"),
    "runs": ("crumb runs outputs", "crumb runs outputs --csv runs.csv"),
    "report": ("crumb report results/compared", "crumb report results/* -o report.html"),
    "analyse": ("crumb analyse outputs/my-data/class_instance/crumb_efficientnet_lite0",),
    "bench": ("crumb bench", "crumb bench --rows step memory --json bench.json"),
}


def text(program: str, about: str, flags: Sequence[Flag], everything: bool) -> str:
    """The help of one command.

    Args:
        program: the command, ``crumb stream``.
        about: what it does.
        flags: all that it takes.
        everything: show all of them, not only those most people use.
    """
    name = program.removeprefix("crumb ")
    groups = GROUPS.get(name, {}) if len(flags) > _FEW else {}
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    shown = {one for names in groups.values() for one in names}
    lines = [_usage(program, flags), "", *_wrapped(about, width)]
    for title, members in _grouped(flags, groups, everything):
        lines += ["", f"{title}:", *(line for flag in members for line in _row(flag, width))]
    if examples := EXAMPLES.get(name, ()):
        lines += ["", "examples:", *(f"  {example}" for example in examples)]
    if groups and not everything:
        left = sum(flag.name not in shown for flag in flags)
        lines += ["", f"{program} --help-all shows the other {left} flags."]
    return "\n".join(lines)


def _usage(program: str, flags: Sequence[Flag]) -> str:
    words = [f"usage: {program}"]
    for flag in flags:
        if flag.positional:
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
        yield "takes", [*by_name.values()]
    elif everything:
        for section in dict.fromkeys(flag.section for flag in by_name.values()):
            members = [flag for flag in by_name.values() if flag.section == section]
            yield f"more ({section[:1].lower()}{section[1:]})" if section else "more", members


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
    default = f" [{flag.default}]" if flag.default and flag.type != "bool" else ""
    body = _wrapped(f"{flag.help}{default}", width - _INDENT)
    if len(head) + 2 > _INDENT - 2:
        yield f"  {head}"
    else:
        yield f"  {head:{_INDENT - 2}}{body.pop(0) if body else ''}".rstrip()
    yield from (f"{'':{_INDENT}}{line}" for line in body)


def _wrapped(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, max(width, 40), break_long_words=False, break_on_hyphens=False)
