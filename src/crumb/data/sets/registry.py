"""Finding data sets by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache

import crumb.data.sets
from crumb.data.sets.base import Source, registered
from crumb.errors import InputError


@cache
def sources() -> dict[str, type[Source]]:
    """Every data set in this package, by name."""
    for module in pkgutil.iter_modules(crumb.data.sets.__path__):
        importlib.import_module(f"crumb.data.sets.{module.name}")
    return dict(sorted(registered().items()))


def find_source(name: str) -> type[Source]:
    """The class of a data set.

    Raises:
        InputError: no such data set.
    """
    if name not in sources():
        problem = "is no data set that can be indexed"
        raise InputError(f"crumb index {name}", problem, f"choose one of {', '.join(sources())}")
    return sources()[name]


def published_counts(name: str, classes: Iterable[str]) -> Mapping[str, int]:
    """The counts that were published of a data set; none unless it has just these classes."""
    source = sources().get(name)
    whole = source is not None and set(classes) == set(source.published_classes)
    return source.published if source is not None and whole else {}
