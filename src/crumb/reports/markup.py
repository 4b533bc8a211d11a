"""Render the HTML templates of this folder; all text is escaped."""

from __future__ import annotations

import base64
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Markup", "data_uri", "render"]


def render(template: str, **values: Any) -> Markup:
    """Render a template; values are escaped unless they are Markup."""
    return Markup(_environment().get_template(template).render(**values))


def data_uri(content: bytes, kind: str) -> str:
    """Encode content as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    found = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_in_one_line,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"breakable": _breakable, "data_uri": data_uri}
    return found


def _source(name: str) -> str:
    return (files("crumb") / "reports" / "templates" / name).read_text(encoding="utf-8")


def _in_one_line(value: Any) -> Any:
    """Keep a number and its percent sign on one line."""
    return value.replace(" %", "\u00a0%") if type(value) is str else value


def _breakable(name: str) -> Markup:
    """Allow line breaks in a name after a dot, slash or underscore."""
    return Markup(re.sub(r"([._/])(?=\w)", r"\1<wbr>", str(escape(_in_one_line(name)))))
