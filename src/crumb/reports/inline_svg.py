"""Pictures of matplotlib as part of a page: in its colours, without anything that could act."""

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
# What describes the file; the rules of its style sheet are in the page's.
_LEFT_OUT = {"metadata", "style"}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font-family:[^;]*;?\s*")
_PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]+")
_REMEDY = "make it again"


def inline(svg: str, prefix: str, title: str, caption: str) -> str:
    """A picture as an element of a page.

    Black becomes the colour of the text around it and white what lies below, so that it can be
    read on light and dark paper; a picture that has pixels in it keeps its colours, as what is
    written on them would vanish, and is given the class ``own-paper``.

    Args:
        svg: as :func:`crumb.reports.panels.as_svg` gives it.
        prefix: of its identifiers, which no other picture of the page has.
        title: read out in its place.
        caption: likewise, in full.

    Raises:
        InputError: it is damaged, or holds what no figure does (scripts, references to other
            files).
    """
    try:
        root = ElementTree.fromstring(svg.encode())
    except ElementTree.ParseError as error:
        raise InputError(f"figure {title!r}", f"is no SVG ({error})", _REMEDY) from error
    box = root.get("viewBox", "")
    if _name(root) != "svg" or not re.fullmatch(r"[-\d. ]+", box) or len(box.split()) != 4:
        raise InputError(f"figure {title!r}", "is no SVG with a view box", _REMEDY)
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
    """Width of a picture in points; 0 where it does not say."""
    found = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ', svg)
    return float(found[1]) if found else 0.0


_ENLARGED = 1.75
"""Pixels of a wide page for a point."""


def _element(
    element: ElementTree.Element, prefix: str, title: str, referred: set[str], own_paper: bool
) -> str:
    name = _name(element)
    if name in _LEFT_OUT:
        return ""
    if name not in _ELEMENTS:
        raise InputError(f"figure {title!r}", f"holds <{name}>, unlike figures of ours", _REMEDY)
    attributes = ""
    for key, value in element.attrib.items():
        key = _NAMESPACE.sub("", key)
        if key == "id" and value not in referred:
            continue
        if key.startswith("on") or (key == "href" and not _harmless(value)):
            problem = f"holds {key}, unlike figures of ours"
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
