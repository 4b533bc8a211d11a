"""The numeric flags of every command, read off the dataclasses that define them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from crumb.cli.analyse import Analyse
from crumb.cli.bench import Bench
from crumb.cli.demo import Demo
from crumb.cli.learn import Learn
from crumb.cli.predict import Predict
from crumb.cli.pretrain import PretrainConfig
from crumb.cli.tasks import Tasks
from crumb.data.sets.registry import sources
from crumb.errors import flag_of
from crumb.experiments.arms import AblateConfig
from crumb.experiments.compare import CompareConfig
from crumb.experiments.tune import TuneConfig
from crumb.methods.crumb import CrumbConfig
from crumb.methods.registry import methods
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig

DEFINED_BY: dict[str, tuple[type, ...]] = {
    "stream": (StreamConfig, NetworkConfig),
    "pretrain": (PretrainConfig, NetworkConfig, CrumbConfig),
    "tasks": (Tasks,),
    "compare": (CompareConfig, NetworkConfig),
    "ablate": (AblateConfig, NetworkConfig, CrumbConfig),
    "tune": (TuneConfig, NetworkConfig),
    "demo": (Demo,),
    "learn": (Learn,),
    "predict": (Predict,),
    "bench": (Bench,),
    "analyse": (Analyse,),
}
# What says which flags a command has, where that is not its name alone.
FIRST = {"tune": ("tune", "crumb"), "ablate": ("ablate", "no_replay")}


class Flag(NamedTuple):
    """A flag that takes numbers.

    Attributes:
        command: that has it, and the words that give it that flag.
        name: with its hyphens.
        kind: int or float.
    """

    command: tuple[str, ...]
    name: str
    kind: type

    def __str__(self) -> str:
        return " ".join([*self.command, self.name])


def numeric_flags() -> list[Flag]:
    """Every one of them, each once a command; those of a method with the first that has it."""
    found: dict[tuple[str, str], Flag] = {}
    for command, configs in DEFINED_BY.items():
        for config in configs:
            for name, kind in _numbers(config):
                found.setdefault((command, name), Flag(FIRST.get(command, (command,)), name, kind))
    for source, config in sources().items():
        for name, kind in _numbers(config):
            found.setdefault(("index", name), Flag(("index", source), name, kind))
    for method, learner in methods().items():
        for name, kind in _numbers(learner.Config):
            found.setdefault(("stream", name), Flag(("stream", "--method", method), name, kind))
    return list(found.values())


def _numbers(config: type) -> Iterator[tuple[str, type]]:
    for name, hint in get_type_hints(config).items():
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _numbers(hint)
        for kind in _kinds(hint):
            yield flag_of(name), kind


def _kinds(hint: Any) -> list[type]:
    """int or float where the annotation says so, alone, as an option or in a tuple."""
    if hint in (int, float):
        return [hint]
    return [kind for part in get_args(hint) for kind in _kinds(part)] if get_origin(hint) else []
