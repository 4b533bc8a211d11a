"""Finding methods by name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from inspect import isabstract
from pathlib import Path
from typing import Any, TypeVar

import torch

import crumb.methods
from crumb import plugins
from crumb.device import choose_device, usual_torch
from crumb.errors import InputError, setting, shown
from crumb.kinds import whole_number
from crumb.memory.capacity import ON_ARRIVAL
from crumb.methods.base import Learner
from crumb.methods.settings import Create
from crumb.nets.backbones import build_network
from crumb.nets.config import EngineName, NetworkConfig
from crumb.nets.fronts import use_engine

T = TypeVar("T", bound=Learner)

DEFAULT_METHOD = "slda"
"""The most accurate one that a small device has room for."""
DEFAULT_SETTINGS: dict[str, Any] = {"budget_bytes": 64_000}

_METHODS: dict[str, type[Learner]] = {}
# Those of other packages, once they have been asked for.
_PLUGINS: dict[str, type[Learner]] = {}


def register(learner: type[T]) -> type[T]:
    """Class decorator: make a method known by its ``name``, at any time.

    A class that is defined anew, as in a notebook, takes the place of the one before.

    Raises:
        InputError: another class has the name.
    """
    if not learner.__module__.startswith("crumb.methods."):
        _import_own()
    _refuse_another(learner)
    _METHODS[learner.name] = learner
    for name in sorted(_METHODS):
        _METHODS[name] = _METHODS.pop(name)
    return learner


def _refuse_another(learner: type[Learner]) -> None:
    """Of one name there is one class: files of learners tell it by its name."""
    known = _METHODS.get(learner.name) or _PLUGINS.get(learner.name, learner)
    if _place(known) != _place(learner):
        problem = f"has the name {learner.name!r} of {_place(known)}"
        raise InputError(_place(learner), problem, "give it another name")


def _place(learner: type[Learner]) -> str:
    return f"{learner.__module__}:{learner.__qualname__}"


def methods() -> dict[str, type[Learner]]:
    """Every method of Crumb, and every other one that was registered, by name."""
    _import_own()
    return _METHODS


@cache
def _import_own() -> None:
    for module in pkgutil.iter_modules(crumb.methods.__path__):
        importlib.import_module(f"crumb.methods.{module.name}")


def installed_methods() -> tuple[dict[str, type[Learner]], list[InputError]]:
    """Every method that can be asked for by name, those of other packages included.

    Returns:
        the methods by name; and what is wrong with those that cannot be loaded.
    """
    return plugins.listed(plugins.METHODS, methods(), find_method)


def find_method(name: str) -> type[Learner]:
    """The class of a method.

    Args:
        name: of a method of Crumb, of one that was registered, of an entry point in the group
            ``crumb.methods`` of another package; or MODULE:CLASS.

    Raises:
        InputError: there is no such method, or it cannot be loaded.
    """
    own = methods()
    if isinstance(name, str):
        if (known := own.get(name) or _PLUGINS.get(name)) is not None:
            return known
        if (found := plugins.find(plugins.METHODS, name)) is not None:
            return _taken_in(found, name)
    names = ", ".join(sorted({*own, *plugins.names(plugins.METHODS)}))
    raise InputError(setting("method", name), "no such method", f"choose one of {names}")


def is_method(name: str) -> bool:
    """Whether :func:`find_method` finds a class of this name."""
    try:
        find_method(name)
    except InputError:
        return False
    return True


def _taken_in(found: Any, name: str) -> type[Learner]:
    """What another package offers under a name, if it is a method; known by its own name then."""
    given = setting("method", name)
    usable = isinstance(found, type) and issubclass(found, Learner) and not isabstract(found)
    if not usable or not isinstance(getattr(found, "name", None), str):
        problem = f"is {shown(found)}, no class of a method with a name"
        raise InputError(given, problem, "name a subclass of crumb.methods.base.Learner")
    if not plugins.is_reference(name) and found.name != name:
        problem = f"is an entry point of a method that calls itself {found.name!r}"
        raise InputError(given, problem, "both must have one name")
    _refuse_another(found)
    _PLUGINS[found.name] = found
    return found


def _with_overloads(function: Any) -> Create:
    """The same function; editors complete the settings of each method."""
    return function


@_with_overloads
@usual_torch()
def create(
    method: str | None = None,
    *,
    backbone: str = "efficientnet_lite0",
    cut: str | None = None,
    weights: str | Path = "pretrained",
    seed: int = 0,
    device: str | torch.device = "auto",
    engine: EngineName = "auto",
    **settings: Any,
) -> Learner:
    """A learner ready to observe a stream.

    Without task boundaries from a caller, exemplars are stored on arrival: a method that would
    store them at the end of a task (``crumb``) is created with ``write_policy="on-arrival"``
    unless another is asked for.

    Args:
        method: by name, or MODULE:CLASS; by default ``slda`` with ``budget_bytes=64_000``.
        backbone: known by name, or any torchvision or timm name together with ``cut``.
        cut: dotted name of the first layer of the tail.
        weights: ``pretrained``, ``random`` or a path.
        seed: of every random number.
        device: where to compute: auto (a GPU where there is one), cpu, cuda or cuda:N.
        engine: of the front on a CPU: torch, onnxruntime, openvino, or auto, the fastest one.
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
    wanted = NetworkConfig(backbone, cut, source, engine=engine)
    network = build_network(wanted, seed)
    learner = chosen(network, config, seed, where)
    use_engine(network, wanted.engine)
    return learner
