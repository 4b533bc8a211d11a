"""Methods, data sets and backbones of other packages: by entry point, or as MODULE:NAME.

A package makes its own known in its pyproject.toml:

    [project.entry-points."crumb.methods"]
    my_method = "mypackage.mymethod:MyMethod"

Nothing of it is imported before a name is asked for that is not Crumb's own, or all are listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import reduce
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from crumb.errors import InputError

T = TypeVar("T")

METHODS, DATASETS, BACKBONES = "crumb.methods", "crumb.datasets", "crumb.backbones"
"""Groups of entry points."""
_REFERENCE = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


def names(group: str) -> list[str]:
    """Names of the entry points of a group, sorted; nothing is imported."""
    return sorted({point.name for point in entry_points(group=group)})


def find(group: str, name: str) -> Any:
    """Import what another package offers under this name; None if nothing.

    Args:
        group: group of entry points.
        name: name of an entry point, or MODULE:NAME of anything that can be imported.

    Raises:
        InputError: it cannot be imported, or two packages have one of this name.
    """
    if is_reference(name):
        return load(name)
    points = list(entry_points(group=group, name=name))
    packages = sorted({_package(point) for point in points})
    if len(packages) > 1:
        problem = f"is an entry point of {' and of '.join(packages)}"
        raise InputError(f"{group} {name}", problem, "uninstall one of them")
    if not points:
        return None
    subject = f"{group} {name} of the package {packages[0]}"
    return _loaded(subject, points[0].value, "repair or uninstall it")


def listed(
    group: str, own: Mapping[str, T], find: Callable[[str], T]
) -> tuple[dict[str, T], list[InputError]]:
    """Everything available by name.

    Args:
        group: group of entry points.
        own: what is known without them.
        find: gives what a name stands for.

    Returns:
        own things and those of other packages, by name; and what is wrong with those that cannot
        be loaded.
    """
    found, broken = dict(own), []
    for name in names(group):
        try:
            found[name] = find(name)
        except InputError as error:
            broken.append(error)
    return dict(sorted(found.items())), broken


def is_reference(name: str) -> bool:
    """Whether a name has the form MODULE:NAME."""
    return bool(_REFERENCE.fullmatch(name))


def load(reference: str) -> Any:
    """Import MODULE:NAME.

    Raises:
        InputError: it cannot be imported.
    """
    return _loaded(reference, reference, "install it, or name its folder in PYTHONPATH")


def _loaded(subject: str, reference: str, remedy: str) -> Any:
    module, _, path = reference.partition(":")
    try:
        return reduce(getattr, filter(None, path.split(".")), import_module(module.strip()))
    # Another package's code may raise anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(subject, f"cannot be loaded ({reason})", remedy) from error


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "?"
