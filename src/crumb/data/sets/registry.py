"""Finding data sets by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from inspect import isabstract

import crumb.data.sets
from crumb import plugins
from crumb.data.sets.base import Source, registered
from crumb.errors import InputError, meant, shown


def sources() -> dict[str, type[Source]]:
    """Every data set of Crumb and every registered one, by name."""
    _import_own()
    return dict(sorted(registered().items()))


@cache
def _import_own() -> None:
    for module in pkgutil.iter_modules(crumb.data.sets.__path__):
        importlib.import_module(f"crumb.data.sets.{module.name}")


def installed_sources() -> tuple[dict[str, type[Source]], list[InputError]]:
    """Every data set that has a name, including those of other packages.

    Returns:
        the data sets by name, and the errors of those that cannot be loaded.
    """
    return plugins.listed(plugins.DATASETS, sources(), find_source)


def find_source(name: str) -> type[Source]:
    """The class of a data set.

    Args:
        name: name of a data set of Crumb, of a registered one, or of an entry point in the group
            ``crumb.datasets`` of another package; or MODULE:CLASS.

    Raises:
        InputError: there is no such data set, or it cannot be loaded.
    """
    own = sources()
    if name in own:
        return own[name]
    given, found = f"crumb index {name}", plugins.find(plugins.DATASETS, name)
    if found is None:
        names = sorted({*own, *plugins.names(plugins.DATASETS)})
        problem = f"is not a data set that can be indexed{meant(name, names)}"
        raise InputError(given, problem, f"choose one of {', '.join(names)}")
    usable = isinstance(found, type) and issubclass(found, Source) and not isabstract(found)
    if not usable or not isinstance(getattr(found, "name", None), str):
        problem = f"is {shown(found)}, not a named data set class"
        raise InputError(given, problem, "name a subclass of crumb.data.sets.base.Source")
    return found


def published_counts(name: str, classes: Iterable[str]) -> Mapping[str, int]:
    """The published counts of a data set; none if its classes differ."""
    source = sources().get(name)
    whole = source is not None and set(classes) == set(source.published_classes)
    return source.published if source is not None and whole else {}
