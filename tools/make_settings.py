"""Write what is known of methods and commands into files, from the classes that define it.

======================================  ==========================================================
file                                    for whom
======================================  ==========================================================
``src/crumb/methods/settings.py``       editors: what ``crumb.create`` takes for each method
``src/crumb/methods/facts.json``        tables and reports, which do not wait for torch
``src/crumb/cli/flags.json``            help and mistakes on the command line, likewise
======================================  ==========================================================

Methods of other packages are in none of them. ``tests/methods/test_settings.py`` says when a file
is out of date.
"""

from __future__ import annotations

import types
import typing
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from crumb.cli import described
from crumb.cli.described import Command
from crumb.cli.flags import HelpAsked
from crumb.data.sets.registry import sources
from crumb.errors import InputError
from crumb.experiments.arms import ABLATED
from crumb.methods import facts
from crumb.methods.registry import DEFAULT_METHOD, methods

PACKAGE = Path(__file__).parents[1] / "src" / "crumb"
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
_ALONE = (
    *("learn", "teach", "predict", "forget", "info", "export", "demo", "tasks", "pretrain"),
    *("stream", "compare", "ablate", "completion"),
    *("analyse", "report", "pareto", "bench", "methods", "backbones"),
)


def own_methods() -> list[str]:
    """Those that come with Crumb."""
    return [name for name, kind in methods().items() if kind.__module__.startswith("crumb.")]


def text() -> str:
    """The settings of each method, for editors."""
    own = own_methods()
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


def commands() -> dict[str, Command]:
    """What each command says of itself, by its first words."""
    own = own_methods()
    calls = {
        **{name: [name] for name in _ALONE},
        "tune": ["tune"],
        **{f"data {action}": ["data", action] for action in ("list", "check", "stats", "show")},
        **{f"index {source}": ["index", source] for source in sources()},
        **{f"tune {method}": ["tune", method] for method in own},
        **{f"{name} {m}": [name, "--method", m] for name in ("learn", "stream") for m in own},
        **{f"ablate {method}": ["ablate", "--method", method] for method in ABLATED},
    }
    found = {name: _asked(words) for name, words in calls.items()}
    return {name: command for name, command in found.items() if command is not None}


def _asked(words: list[str]) -> Command | None:
    """The answer to ``--help``; None where the command does not take the method."""
    command, *rest = words
    try:
        import_module(f"crumb.cli.{command}").run([*rest, "--help"])
    except HelpAsked as asked:
        return Command(asked.program, asked.about, asked.flags)
    except InputError:
        return None
    raise AssertionError(f"{words} prints a help of its own")


def contents() -> dict[Path, str]:
    """Every file with what it should hold."""
    own = {name: methods()[name] for name in own_methods()}
    return {
        PACKAGE / "methods" / "settings.py": text(),
        PACKAGE / "methods" / facts.FILE: facts.as_json(own),
        PACKAGE / "cli" / described.FILE: described.as_json(commands()),
    }


if __name__ == "__main__":
    for path, content in contents().items():
        path.write_text(content, encoding="utf-8")
