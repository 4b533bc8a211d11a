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
from crumb.errors import InputError, meant, setting, shown
from crumb.kinds import whole_number
from crumb.memory.capacity import BY_MODE
from crumb.methods.base import Learner
from crumb.methods.settings import Create
from crumb.nets.backbones import build_network
from crumb.nets.config import EngineName, NetworkConfig
from crumb.nets.fronts import use_engine

T = TypeVar("T", bound=Learner)

DEFAULT_METHOD = "slda"
"""Default method: the most accurate one that fits a small device."""
DEFAULT_SETTINGS: dict[str, Any] = {"budget_bytes": 64_000}

_METHODS: dict[str, type[Learner]] = {}
_RENAMED = {
    "meet": "add_classes",
    "goes_back": "supports_best_epoch",
    "reads_twice": "needs_second_pass",
}
# Methods of other packages that have been looked up.
_PLUGINS: dict[str, type[Learner]] = {}


def register(learner: type[T]) -> type[T]:
    """Class decorator: register a method under its ``name``, at any time.

    Redefining a class, as in a notebook, replaces the previous one.

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
    """Names are unique, because learner files identify the class by its name.

    Nothing calls an override under a name that a member had in an earlier version.
    """
    for old, new in _RENAMED.items():
        if hasattr(learner, old):
            raise InputError(_place(learner), f"defines {old}", f"rename it to {new}")
    known = _METHODS.get(learner.name) or _PLUGINS.get(learner.name, learner)
    if _place(known) != _place(learner):
        problem = f"has the name {learner.name!r} of {_place(known)}"
        raise InputError(_place(learner), problem, "give it another name")


def _place(learner: type[Learner]) -> str:
    return f"{learner.__module__}:{learner.__qualname__}"


def methods() -> dict[str, type[Learner]]:
    """All methods of Crumb and all registered ones, by name."""
    _import_own()
    return _METHODS


@cache
def _import_own() -> None:
    for module in pkgutil.iter_modules(crumb.methods.__path__):
        importlib.import_module(f"crumb.methods.{module.name}")


def installed_methods() -> tuple[dict[str, type[Learner]], list[InputError]]:
    """All available methods by name, including those of other packages.

    Returns:
        the methods by name, and the errors of those that cannot be loaded.
    """
    return plugins.listed(plugins.METHODS, methods(), find_method)


def find_method(name: str) -> type[Learner]:
    """The class of a method.

    Args:
        name: name of a method of Crumb, a registered method or an entry point in the group
            ``crumb.methods``; or MODULE:CLASS.

    Raises:
        InputError: there is no such method, or it cannot be loaded.
    """
    own = methods()
    if isinstance(name, str):
        if (known := own.get(name) or _PLUGINS.get(name)) is not None:
            return known
        if (found := plugins.find(plugins.METHODS, name)) is not None:
            return _taken_in(found, name)
    names = sorted({*own, *plugins.names(plugins.METHODS)})
    near = meant(name, names) if isinstance(name, str) else ""
    problem = f"no such method{near}"
    raise InputError(setting("method", name), problem, f"choose one of {', '.join(names)}")


def is_method(name: str) -> bool:
    """Whether :func:`find_method` finds a class of this name."""
    try:
        find_method(name)
    except InputError:
        return False
    return True


def _taken_in(found: Any, name: str) -> type[Learner]:
    """Load a method of another package and register it under its own name."""
    given = setting("method", name)
    usable = isinstance(found, type) and issubclass(found, Learner) and not isabstract(found)
    if not usable or not isinstance(getattr(found, "name", None), str):
        problem = f"is {shown(found)}, not a named method class"
        raise InputError(given, problem, "name a subclass of crumb.methods.base.Learner")
    if not plugins.is_reference(name) and found.name != name:
        problem = f"is an entry point of a method named {found.name!r}"
        raise InputError(given, problem, "give both the same name")
    _refuse_another(found)
    _PLUGINS[found.name] = found
    return found


def _with_overloads(function: Any) -> Create:
    """Identity; typed so that editors complete the settings of each method."""
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
    """Create a learner.

    Callers give no task boundaries, so a method that stores exemplars at the end of a task
    (``crumb``) is created with ``write_policy="on-arrival"`` by default.

    Args:
        method: name of the method or MODULE:CLASS. Default: ``slda`` with ``budget_bytes=64_000``.
        backbone: a known backbone, or any torchvision or timm name together with ``cut``.
        cut: dotted name of the first layer of the tail.
        weights: ``pretrained``, ``random``, ``hf-hub:OWNER/NAME`` or a path.
        seed: seed of all random numbers.
        device: device: auto (a GPU if available), cpu, cuda or cuda:N.
        engine: of the front on a CPU: torch, onnxruntime, openvino, or auto, the fastest one.
        settings: fields of the method's ``Config``.

    Raises:
        InputError: a name or setting is unknown or invalid.
    """
    if method is None:
        method = DEFAULT_METHOD
        settings = {**DEFAULT_SETTINGS, **settings}
    chosen = find_method(method)
    fields = chosen.Config.__dataclass_fields__
    if unknown := [name for name in settings if name not in fields]:
        raise InputError(
            setting(unknown[0]), f"is not a setting of {method}", f"choose from {', '.join(fields)}"
        )
    for name in chosen.decided_by_mode():
        settings.setdefault(name, BY_MODE[name][True])
    where = choose_device(device)
    seed = whole_number("seed", seed, 0, (1 << 63) - 1)
    config = chosen.Config(**settings)
    source = str(weights) if isinstance(weights, Path) else weights
    wanted = NetworkConfig(backbone, cut, source, engine=engine)
    network = build_network(wanted, seed)
    learner = chosen(network, config, seed, where)
    use_engine(network, wanted.engine)
    return learner
