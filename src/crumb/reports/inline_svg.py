"""Embed matplotlib figures in a page, in its colours and without active content."""

from __future__ import annotations

import re
from html import escape
from xml.etree import ElementTree

from crumb.errors import InputError

INK, PAPER = "#000000", "#ffffff"
_NAMESPACE = re.compile(r"\{[^}]*\}")
_ELEMENTS = {
    *("g", "path", "use", "defs", "clipPath", "rect", "circle", "ellipse", "line", "polyline"),
    *("polygon", "text", "tspan", "image", "linearGradient", "stop", "pattern", "title", "desc"),
}
# Metadata of the file, and its style sheet, whose rules are in the page's.
_LEFT_OUT = {"metadata", "style"}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font-family:[^;]*;?\s*")
_PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]+")
_REMEDY = "make it again"


def inline(svg: str, prefix: str, title: str, caption: str) -> str:
    """An SVG figure as an HTML element.

    Black becomes the text colour of the page and white its background, so the figure is readable in
    light and dark mode. A figure with raster images keeps its colours, so that labels on them stay
    readable, and gets the class ``own-paper``.

    Args:
        svg: output of :func:`crumb.reports.panels.as_svg`.
        prefix: prefix of its identifiers, unique on the page.
        title: alternative text.
        caption: long alternative text.

    Raises:
        InputError: the file is damaged or has contents unlike our figures (scripts, external
            references).
    """
    try:
        root = ElementTree.fromstring(svg.encode())
    except ElementTree.ParseError as error:
        raise InputError(f"figure {title!r}", f"is not an SVG ({error})", _REMEDY) from error
    box = root.get("viewBox", "")
    if _name(root) != "svg" or not re.fullmatch(r"[-\d. ]+", box) or len(box.split()) != 4:
        raise InputError(f"figure {title!r}", "is not an SVG with a viewBox", _REMEDY)
    own_paper = any(_name(element) == "image" for element in root.iter())
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    content = "".join(_element(part, prefix, title, referred, own_paper) for part in root)
    width = float(box.split()[2])
    names = f'aria-labelledby="{prefix}-title {prefix}-desc"'
    kind = ' class="own-paper"' if own_paper else ""
    size = f'viewBox="{box}" style="max-width: {width * _ENLARGED:.0f}px"'
    return (
        f'<svg {size} role="img"{kind} {names}>'
        f'<title id="{prefix}-title">{escape(title)}</title>'
        f'<desc id="{prefix}-desc">{escape(caption)}</desc>{content}</svg>'
    )


def width_of(svg: str) -> float:
    """Width of a figure in points; 0 if unknown."""
    found = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ', svg)
    return float(found[1]) if found else 0.0


_ENLARGED = 1.75
"""Pixels per point on a wide page."""


def _element(
    element: ElementTree.Element, prefix: str, title: str, referred: set[str], own_paper: bool
) -> str:
    name = _name(element)
    if name in _LEFT_OUT:
        return ""
    if name not in _ELEMENTS:
        raise InputError(
            f"figure {title!r}", f"holds <{name}>, which Crumb's figures do not contain", _REMEDY
        )
    attributes = ""
    for key, value in element.attrib.items():
        key = _NAMESPACE.sub("", key)
        if key == "id" and value not in referred:
            continue
        if key.startswith("on") or (key == "href" and not _harmless(value)):
            problem = f"holds {key}, which Crumb's figures do not contain"
            raise InputError(f"figure {title!r}", problem, _REMEDY)
        attributes += f' {key}="{escape(_attribute(key, value, prefix, title, own_paper))}"'
    inner = escape(element.text or "") if name in ("text", "tspan", "title", "desc") else ""
    for child in element:
        inner += _element(child, prefix, title, referred, own_paper)
        inner += escape((child.tail or "").strip()) if name in ("text", "tspan") else ""
    return f"<{name}{attributes}>{inner}</{name}>" if inner else f"<{name}{attributes}/>"


def _name(element: ElementTree.Element) -> str:
    return _NAMESPACE.sub("", str(element.tag))


def _harmless(reference: str) -> bool:
    return reference.startswith("#") or bool(_PICTURE.fullmatch(reference))


def _attribute(key: str, value: str, prefix: str, title: str, own_paper: bool) -> str:
    if key == "id":
        return f"{prefix}-{value}"
    if key == "href":
        return f"#{prefix}-{value[1:]}" if value.startswith("#") else value
    if "url(" in _REFERENCE.sub("", value):
        raise InputError(f"figure {title!r}", "refers to another file", _REMEDY)
    value = _REFERENCE.sub(rf"url(#{prefix}-\1)", value)
    if key == "style":
        value = _FONT.sub("", value)
    if key == "d":
        value = " ".join(value.split())
    if own_paper or key not in ("style", "fill", "stroke"):
        return value
    return re.sub(INK, "currentColor", re.sub(PAPER, "var(--paper)", value, flags=re.I), flags=re.I)
