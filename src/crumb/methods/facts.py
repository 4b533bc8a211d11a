"""Facts about methods by name. Reading those of Crumb's own methods imports nothing heavy.

``tools/make_settings.py`` writes ``facts.json``. A test fails when the file is out of date.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import crumb.methods
from crumb import plugins
from crumb.errors import InputError, meant, setting

if TYPE_CHECKING:
    from crumb.methods.described import Described

FILE = "facts.json"


@dataclass(frozen=True)
class Facts:
    """One method.

    Attributes:
        summary: what it does against forgetting, in a line.
        paper: authors, venue and year, or which bound it is.
        keeps: what it holds between batches besides one copy of the network.
        boundaries: whether it must be told where tasks begin and end, in words.
        strict: it can learn with each frame shown once.
        offline: it trains on everything so far at each task (an upper bound).
        stores_exemplars: a budget in bytes says how much of the past it keeps.
        defaults: of its settings, as TOML has them; None where a setting may be left out.
    """

    summary: str
    paper: str
    keeps: str
    boundaries: str
    strict: bool
    offline: bool
    stores_exemplars: bool
    defaults: Mapping[str, Any]


def facts(method: str) -> Facts:
    """The facts of a method by name, or MODULE:CLASS.

    Raises:
        InputError: there is no such method, or it cannot be loaded.
    """
    own = own_facts()
    if method in own:
        return own[method]
    from crumb.methods.registry import find_method

    return facts_of(find_method(method))


def refuse_unknown(method: str, name: str = "method") -> None:
    """Refuse the name of a method that neither Crumb nor an installed package has.

    Args:
        method: the name, or MODULE:CLASS, which is not looked for.
        name: the setting that holds it, for the message.

    Raises:
        InputError: there is no such method.
    """
    known = sorted({*own_facts(), *plugins.names(plugins.METHODS)})
    if method not in known and not plugins.is_reference(method):
        problem = f"no such method{meant(method, known)}"
        raise InputError(setting(name, method), problem, f"choose one of {', '.join(known)}")


@cache
def own_facts() -> dict[str, Facts]:
    """The methods of Crumb by name: from the file, or from the classes if a module is new."""
    content = json.loads((files("crumb.methods") / FILE).read_text(encoding="utf-8"))
    if content["modules"] == _modules():
        return {name: Facts(**values) for name, values in content["methods"].items()}
    from crumb.methods.registry import methods

    own = {n: kind for n, kind in methods().items() if kind.__module__.startswith("crumb.methods.")}
    return {name: facts_of(kind) for name, kind in own.items()}


def _modules() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(crumb.methods.__path__))


def facts_of(kind: type[Described]) -> Facts:
    """The facts of a class."""
    return Facts(
        kind.summary,
        kind.paper,
        kind.keeps,
        kind.boundaries(),
        kind.strict(),
        kind.offline,
        kind.stores_exemplars(),
        defaults_of(kind.Config),
    )


def defaults_of(config: type) -> dict[str, Any]:
    """The defaults of a dataclass, as TOML has them, by field.

    A field without a default is left out, unless it may be None.
    """
    hints = get_type_hints(config)
    found: dict[str, Any] = {}
    for field in fields(config):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        if value is not MISSING:
            found[field.name] = [*value] if isinstance(value, tuple) else value
        elif NoneType in get_args(hints[field.name]):
            found[field.name] = None
    return found


def as_json(methods: Mapping[str, type[Described]]) -> str:
    """The content of the file."""
    content = {
        "modules": _modules(),
        "methods": {name: asdict(facts_of(kind)) for name, kind in methods.items()},
    }
    return json.dumps(content, indent=1) + "\n"
