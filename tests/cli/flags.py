"""The numeric settings of every command, read off the dataclasses that define them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from crumb.cli.analyse import Analyse
from crumb.cli.bench import Bench
from crumb.cli.demo import Demo
from crumb.cli.learn import Learn
from crumb.cli.predict import Predict
from crumb.cli.pretrain import PretrainConfig
from crumb.cli.tasks import Tasks
from crumb.data.sets.registry import sources
from crumb.experiments.arms import AblateConfig
from crumb.experiments.compare import CompareConfig
from crumb.experiments.tune import TuneConfig
from crumb.methods.crumb import CrumbConfig
from crumb.methods.registry import methods
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig

# What each command takes, by the words that say which flags it has.
DEFINED_BY: dict[tuple[str, ...], tuple[type, ...]] = {
    ("stream",): (StreamConfig, NetworkConfig, CrumbConfig),
    ("pretrain",): (PretrainConfig, NetworkConfig, CrumbConfig),
    ("tasks",): (Tasks,),
    ("compare",): (CompareConfig, NetworkConfig),
    ("ablate", "no_replay"): (AblateConfig, NetworkConfig, CrumbConfig),
    ("tune", "crumb"): (TuneConfig, NetworkConfig),
    ("demo",): (Demo,),
    ("learn",): (Learn,),
    ("predict",): (Predict,),
    ("bench",): (Bench,),
    ("analyse",): (Analyse,),
    **{("index", source): (config,) for source, config in sources().items()},
    **{("stream", "--method", name): (kind.Config,) for name, kind in methods().items()},
}


def dataclasses_of(*configs: type) -> Iterator[type]:
    """Each configuration and those inside it."""
    for config in configs:
        yield config
        hints = get_type_hints(config).values()
        yield from dataclasses_of(*(h for h in hints if isinstance(h, type) and is_dataclass(h)))


CONFIGS = [*dict.fromkeys(dataclasses_of(*(c for parts in DEFINED_BY.values() for c in parts)))]


def numbers_of(config: type) -> Iterator[tuple[str, type]]:
    """Name of each numeric setting of a configuration, and int or float."""
    hints = get_type_hints(config)
    for field in fields(config):
        for kind in _kinds(hints[field.name]):
            yield field.name, kind


def _kinds(hint: Any) -> list[type]:
    """int or float where the annotation says so, alone, as an option or in a tuple."""
    if hint in (int, float):
        return [hint]
    return [kind for part in get_args(hint) for kind in _kinds(part)] if get_origin(hint) else []
