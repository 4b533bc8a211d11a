"""What editors are told of ``crumb.create``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast, get_args, get_overloads, get_type_hints

from tools.make_settings import class_name, contents

from crumb.methods import settings
from crumb.methods.registry import methods


def test_the_files_are_as_methods_and_commands_are():
    """Otherwise call ``python tools/make_settings.py``."""
    for path, content in contents().items():
        assert path.read_text(encoding="utf-8") == content, path.name


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
