"""Write src/crumb/methods/settings.py: what crumb.create takes for each method, for editors.

Nothing but editors needs it, so methods of other packages are not in it.

Called without words it writes the file; tests/methods/test_settings.py says when that is due.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from crumb.methods.registry import DEFAULT_METHOD, methods

FILE = Path(__file__).parents[1] / "src" / "crumb" / "methods" / "settings.py"
HEAD = '''"""What crumb.create takes for each method. Written by tools/make_settings.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, Unpack, overload

import torch

from crumb.methods.teachable import Teachable


class CommonSettings(TypedDict, total=False):
    """For every method."""

    backbone: str
    cut: str | None
    weights: str | Path
    seed: int
    device: str | torch.device
'''


CREATE = '''

class Create(Protocol):
    """``crumb.create``: one overload a method, so that editors complete its settings."""

'''
WIDTH = 100


def text() -> str:
    """The whole file."""
    own = [name for name, kind in methods().items() if kind.__module__.startswith("crumb.")]
    overloads = [_overload(f'Literal["{name}"]', class_name(name), name) for name in own]
    overloads.append(_signature("self, method: str, **settings: Any"))
    return "".join([HEAD, *map(_of_method, own), CREATE, *overloads])


def _overload(method: str, settings: str, name: str) -> str:
    usual = " | None = None" if name == DEFAULT_METHOD else ""
    return _signature(f"self, method: {method}{usual}, **settings: Unpack[{settings}]")


def _signature(parameters: str) -> str:
    one = f"    def __call__({parameters}) -> Teachable: ...\n"
    if len(one) > WIDTH + 1:
        one = f"    def __call__(\n        {parameters}\n    ) -> Teachable: ...\n"
    return f"    @overload\n{one}"


def class_name(method: str) -> str:
    """Of the settings of a method."""
    return "".join(part.capitalize() for part in method.split("_")) + "Settings"


def _of_method(name: str) -> str:
    config = methods()[name].Config
    hints = typing.get_type_hints(config)
    fields = [f"    {one}: {_written(hints[one])}\n" for one in config.__dataclass_fields__]
    head = f'class {class_name(name)}(CommonSettings, total=False):\n    """Of {name}."""\n'
    return f"\n\n{head}\n{''.join(fields)}"


def _written(hint: Any) -> str:
    """A type, as it is written in a program."""
    parts = get_args(hint)
    if get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(map(_written, parts))
    if get_origin(hint) is Literal:
        words = ", ".join(f'"{part}"' for part in parts)
        return f"Literal[{words}]"
    if parts:
        inner = ", ".join("..." if part is ... else _written(part) for part in parts)
        return f"{get_origin(hint).__name__}[{inner}]"
    return "None" if hint is type(None) else hint.__name__


if __name__ == "__main__":
    FILE.write_text(text())
