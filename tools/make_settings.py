"""Write src/crumb/methods/settings.py: what crumb.create takes for each method, for editors.

Called without words it writes the file; tests/methods/test_settings.py says when that is due.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from crumb.methods.registry import methods

FILE = Path(__file__).parents[1] / "src" / "crumb" / "methods" / "settings.py"
HEAD = '''"""What crumb.create takes for each method. Written by tools/make_settings.py."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

import torch


class CommonSettings(TypedDict, total=False):
    """For every method."""

    backbone: str
    cut: str | None
    weights: str | Path
    seed: int
    device: str | torch.device
'''


def text() -> str:
    """The whole file."""
    return HEAD + "".join(_of_method(name) for name in methods())


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
