"""HTML from the templates beside this file; every text that is put into one is escaped."""

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
    """A template filled with values; all are escaped but those that are HTML already."""
    return Markup(_environment().get_template(template).render(**values))


def data_uri(content: bytes, kind: str) -> str:
    """Content as an address of itself."""
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
    """A number and its percent sign stay in one line."""
    return value.replace(" %", "\u00a0%") if type(value) is str else value


def _breakable(name: str) -> Markup:
    """A name that may go on in the next line after a dot, a stroke or an underscore."""
    return Markup(re.sub(r"([._/])(?=\w)", r"\1<wbr>", str(escape(_in_one_line(name)))))
