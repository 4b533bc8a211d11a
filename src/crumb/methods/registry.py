"""Finding methods by name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack, overload

import torch

import crumb.methods
import crumb.methods.settings as known
from crumb.device import choose_device, usual_torch
from crumb.errors import InputError, setting
from crumb.kinds import whole_number
from crumb.memory.capacity import ON_ARRIVAL
from crumb.methods.base import Learner
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig

T = TypeVar("T", bound=Learner)

DEFAULT_METHOD = "slda"
"""The most accurate one that a small device has room for."""
DEFAULT_SETTINGS: dict[str, Any] = {"budget_bytes": 64_000}

_METHODS: dict[str, type[Learner]] = {}


def register(learner: type[T]) -> type[T]:
    """Class decorator: make a method known by its ``name``."""
    assert learner.name not in _METHODS, f"two methods named {learner.name}"
    _METHODS[learner.name] = learner
    return learner


@cache
def methods() -> dict[str, type[Learner]]:
    """Every method in this package, by name."""
    for module in pkgutil.iter_modules(crumb.methods.__path__):
        importlib.import_module(f"crumb.methods.{module.name}")
    return dict(sorted(_METHODS.items()))


def find_method(name: str) -> type[Learner]:
    """The class of a method.

    Raises:
        InputError: no such method.
    """
    if not isinstance(name, str) or name not in methods():
        raise InputError(
            setting("method", name), "no such method", f"choose one of {', '.join(methods())}"
        )
    return methods()[name]


# One overload a method, so that editors complete its settings.


@overload
def create(method: Literal["aanets"], **settings: Unpack[known.AanetsSettings]) -> Learner: ...
@overload
def create(method: Literal["agem"], **settings: Unpack[known.AgemSettings]) -> Learner: ...
@overload
def create(method: Literal["agem_r"], **settings: Unpack[known.AgemRSettings]) -> Learner: ...
@overload
def create(method: Literal["bic"], **settings: Unpack[known.BicSettings]) -> Learner: ...
@overload
def create(method: Literal["cope"], **settings: Unpack[known.CopeSettings]) -> Learner: ...
@overload
def create(method: Literal["crumb"], **settings: Unpack[known.CrumbSettings]) -> Learner: ...
@overload
def create(method: Literal["er"], **settings: Unpack[known.ErSettings]) -> Learner: ...
@overload
def create(method: Literal["ewc"], **settings: Unpack[known.EwcSettings]) -> Learner: ...
@overload
def create(method: Literal["finetune"], **settings: Unpack[known.FinetuneSettings]) -> Learner: ...
@overload
def create(method: Literal["gem"], **settings: Unpack[known.GemSettings]) -> Learner: ...
@overload
def create(method: Literal["gss"], **settings: Unpack[known.GssSettings]) -> Learner: ...
@overload
def create(method: Literal["icarl"], **settings: Unpack[known.IcarlSettings]) -> Learner: ...
@overload
def create(method: Literal["l2"], **settings: Unpack[known.L2Settings]) -> Learner: ...
@overload
def create(method: Literal["lwf"], **settings: Unpack[known.LwfSettings]) -> Learner: ...
@overload
def create(method: Literal["lwf_mc"], **settings: Unpack[known.LwfMcSettings]) -> Learner: ...
@overload
def create(method: Literal["mas"], **settings: Unpack[known.MasSettings]) -> Learner: ...
@overload
def create(method: Literal["ncm"], **settings: Unpack[known.NcmSettings]) -> Learner: ...
@overload
def create(method: Literal["offline"], **settings: Unpack[known.OfflineSettings]) -> Learner: ...
@overload
def create(method: Literal["rainbow"], **settings: Unpack[known.RainbowSettings]) -> Learner: ...
@overload
def create(method: Literal["remind"], **settings: Unpack[known.RemindSettings]) -> Learner: ...
@overload
def create(method: Literal["si"], **settings: Unpack[known.SiSettings]) -> Learner: ...
@overload
def create(
    method: Literal["slda"] | None = None, **settings: Unpack[known.SldaSettings]
) -> Learner: ...
@overload
def create(
    method: Literal["stable_sgd"], **settings: Unpack[known.StableSgdSettings]
) -> Learner: ...
@overload
def create(method: str, **settings: Any) -> Learner: ...
@usual_torch()
def create(
    method: str | None = None,
    *,
    backbone: str = "efficientnet_lite0",
    cut: str | None = None,
    weights: str | Path = "pretrained",
    seed: int = 0,
    device: str | torch.device = "auto",
    **settings: Any,
) -> Learner:
    """A learner ready to observe a stream.

    Without task boundaries from a caller, exemplars are stored on arrival: a method that would
    store them at the end of a task (``crumb``) is created with ``write_policy="on-arrival"``
    unless another is asked for.

    Args:
        method: by name; by default ``slda`` with ``budget_bytes=64_000``.
        backbone: registered, or any torchvision or timm name together with ``cut``.
        cut: dotted name of the first layer of the tail.
        weights: ``pretrained``, ``random`` or a path.
        seed: of every random number.
        device: where to compute: auto (a GPU where there is one), cpu, cuda or cuda:N.
        settings: fields of the method's ``Config``.

    Raises:
        InputError: a name or setting that does not exist or cannot be.
    """
    if method is None:
        method = DEFAULT_METHOD
        settings = {**DEFAULT_SETTINGS, **settings}
    chosen = find_method(method)
    fields = chosen.Config.__dataclass_fields__
    if unknown := [name for name in settings if name not in fields]:
        raise InputError(
            setting(unknown[0]), f"is no setting of {method}", f"choose from {', '.join(fields)}"
        )
    if chosen.leaves_policy_open():
        settings.setdefault("write_policy", ON_ARRIVAL)
    where = choose_device(device)
    seed = whole_number("seed", seed, 0, (1 << 63) - 1)
    config = chosen.Config(**settings)
    source = str(weights) if isinstance(weights, Path) else weights
    network = build_network(NetworkConfig(backbone, cut, source), seed)
    return chosen(network, config, seed, where)
