"""``crumb backbones``: which networks there are, and what an exemplar of each takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from crumb import plugins
from crumb.cli.parsing import parse
from crumb.errors import InputError, setting
from crumb.kinds import Argument
from crumb.nets.config import Backbone
from crumb.nets.known import BACKBONES, FACTS, Facts
from crumb.reports.table import Cell, Column, Table

if TYPE_CHECKING:
    from crumb.nets.split import SplitNetwork

_COLUMNS = (
    Column("backbone", kind="code"),
    Column("cut", kind="code"),
    Column("input", form="d"),
    Column("features", kind="words"),
    Column("bytes per exemplar", form=","),
    Column("weights, MB", form=".1f"),
    Column("source of the weights", kind="words"),
)
_MEASURED = (Column("engine", kind="words"), Column("ms per image", form=".1f"))


@dataclass(frozen=True, kw_only=True)
class Backbones:
    """List the backbones that Crumb knows by name: input, features at the cut, bytes, weights.

    Any other network of torchvision or timm can be named, with its cut.
    """

    names: Annotated[tuple[str, ...], Argument(positional=True, metavar="NAME ...")] = ()
    """Show these alone."""
    cut: str | None = None
    """First layer of the trainable tail, instead of the known one."""
    measure: bool = False
    """Measure the milliseconds that the part before the cut takes per image, on one thread of this
    machine, with the engine that auto chooses."""


def run(words: Sequence[str]) -> None:
    """Print one line a backbone."""
    command = parse(Backbones, words, "crumb backbones")
    if command.cut is not None and not command.names:
        raise InputError(setting("cut", command.cut), "is of one backbone", "name the backbone")
    names = command.names or (*BACKBONES, *plugins.names(plugins.BACKBONES))
    known = command.cut is None and all(name in BACKBONES for name in names)
    if known and not command.measure:
        print(Table(_COLUMNS, [_row(name, BACKBONES[name], FACTS[name]) for name in names]).text())
        return
    from crumb.benchmarks.backbones import milliseconds_per_image

    networks = {name: _built(name, command.cut) for name in names}
    rows = [_row_of(name, network) for name, network in networks.items()]
    if not command.measure:
        print(Table(_COLUMNS, rows).text())
        return
    chosen = [_engine(network) for network in networks.values()]
    times = milliseconds_per_image(networks).values()
    timed = [(*row, *more) for row, *more in zip(rows, chosen, times, strict=True)]
    print(Table((*_COLUMNS, *_MEASURED), timed).text())


def _built(name: str, cut: str | None) -> SplitNetwork:
    """With random weights, which take no less time."""
    from crumb.nets.backbones import build_network
    from crumb.nets.config import NetworkConfig

    return build_network(NetworkConfig(name, cut, "random"))


def _engine(network: SplitNetwork) -> str:
    """What computes the front from now on, as in a run."""
    from crumb.nets.fronts import use_engine

    use_engine(network, "auto")
    engine = network.front_engine()
    return "torch" if engine is None else engine.name


def _row_of(name: str, network: SplitNetwork) -> Sequence[Cell]:
    size = sum(value.nbytes for value in _weights(network))
    known, library = FACTS.get(name), network.backbone.library
    source = known.source if known else f"{library}, downloaded"
    if plugins.is_reference(library):
        source = library
    return _row(name, network.backbone, Facts(network.feature_shape, size, source))


def _weights(network: SplitNetwork) -> Iterable:
    return (value for value in network.state_dict().values() if value.is_floating_point())


def _row(name: str, backbone: Backbone, facts: Facts) -> Sequence[Cell]:
    channels, height, width = facts.feature_shape
    # One byte for each slice: a codebook has 256 blocks by default.
    divides = channels % backbone.block_length == 0
    code = height * width * channels // backbone.block_length if divides else None
    shape, megabytes = f"{channels} x {height} x {width}", facts.weight_bytes / 1e6
    size = backbone.preprocessing.size
    return name, backbone.cut, size, shape, code, megabytes, facts.source
