"""What editors are told of ``crumb.create``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast, get_args, get_overloads, get_type_hints

from tools.make_settings import FILE, class_name, text

from crumb.methods import settings
from crumb.methods.registry import methods


def test_the_file_is_as_the_methods_are():
    """Otherwise call ``python tools/make_settings.py``."""
    assert FILE.read_text() == text()


def test_every_method_has_an_overload_with_its_settings():
    found: dict[str, Any] = {}
    written = SimpleNamespace(__module__=settings.__name__, __qualname__="Create.__call__")
    *overloads, any_name = map(get_type_hints, get_overloads(cast(Any, written)))
    for hints in overloads:
        # The default method may be left out.
        name = next(iter(get_args(get_args(hints["method"])[0]) or get_args(hints["method"])))
        (found[name],) = get_args(hints["settings"])
    assert found == {name: getattr(settings, class_name(name)) for name in methods()}
    assert any_name["method"] is str
