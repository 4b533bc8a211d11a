"""Words in figures are as they are written, in whatever script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from crumb import typefaces as module
from crumb.analysis.embedding import _drawn
from crumb.analysis.perturbation_panels import drop_panel
from crumb.reports import lettering
from crumb.reports.classes import _heat_map
from crumb.reports.lettering import as_written
from crumb.reports.panels import Panel, as_png, as_svg, blank
from crumb.typefaces import runs

NAMES = ["Ba$$in", "$x_1$", "a_{b}^2", "_hidden", "100 %", "\\frac{1}{2", "{", "<&>", "$\\alpha$"]
FRUIT, CAT = "果物", "猫"


def words(figure: Figure) -> list[str]:
    """What is written in the picture of a figure."""
    svg = ElementTree.fromstring(as_svg(Panel("x", "x", "x", figure, [], [])))
    return ["".join(e.itertext()) for e in svg.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def typefaces(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes these files all that the machine has beside the typeface of matplotlib."""

    def only(*paths: Path) -> None:
        for function in (module._files, module.covering):
            function.cache_clear()
        monkeypatch.setattr(module, "_told", set())
        found = [str(path) for path in paths]
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: found)

    return only


def write_typeface(path: Path, letters: str, family: str) -> Path:
    """A typeface whose letters are black squares as high as the line."""
    pen = TTGlyphPen(None)
    for number, corner in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if number else pen.moveTo)(corner)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"u{ord(letter):x}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"u{ord(letter):x}" for letter in letters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)
    return path


def test_every_kind_of_word_is_as_written():
    figure = blank(6, 6)
    axes = figure.subplots()
    image = axes.imshow(np.eye(len(NAMES)))
    figure.colorbar(image, label=NAMES[0])
    axes.set_xticks(range(len(NAMES)), NAMES, rotation=45)
    axes.set_yticks(range(len(NAMES)), NAMES)
    axes.set(title=NAMES[1], xlabel=NAMES[2], ylabel=NAMES[4])
    axes.annotate(NAMES[5], (0, 0))
    axes.text(1, 1, NAMES[0])
    figure.suptitle(NAMES[6])
    lines = axes.plot(np.zeros((2, len(NAMES))))
    figure.legend(lines, NAMES)
    found = words(figure)
    for name in NAMES:
        assert found.count(name) >= 3
    assert as_png(figure).startswith(b"\x89PNG")


def test_classes_and_arms_are_as_written():
    count = len(NAMES)
    assert words(_heat_map(np.eye(count), NAMES)).count("Ba$$in") == 2
    points = np.zeros((count, 2))
    found = words(_drawn([points, points], ("x", "y"), [*range(count)], NAMES))
    assert [word for word in found if word in NAMES] == NAMES
    arms = {name: {0: {"none": 50.0, "style": 40.0}} for name in ("_first", "$second$")}
    assert {"_first", "$second$"} <= set(words(drop_panel(arms).figure))


def test_powers_of_ten_have_raised_digits():
    figure = blank(4, 3)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1e4, 1e7], [1e-2, 1.0, 1e3])
    left.set_xscale("symlog", linthresh=1e4)
    left.set_yscale("log")
    right.plot([1, 2], [2.0, 6.0])
    right.set_yscale("log")
    found = words(figure)
    assert {"0", "10⁴", "10⁷", "10⁻²", "10⁰", "10³", "2×10⁰", "6×10⁰"} <= set(found)
    assert not [word for word in found if "$" in word or "mathdefault" in word]


def test_a_typeface_of_the_machine_has_the_letters(tmp_path: Path, typefaces):
    both = write_typeface(tmp_path / "b.ttf", FRUIT, "Squares")
    cat = write_typeface(tmp_path / "a.ttf", CAT, "Cats")
    (tmp_path / "c.ttf").write_bytes(b"none")
    typefaces(cat, both, tmp_path / "c.ttf")
    assert runs(f"a{FRUIT[0]}{CAT} b") == [("a", None), (FRUIT[0], both), (CAT, cat), (" b", None)]
    figure = Figure((2, 1))
    figure.text(0.1, 0.1, FRUIT, fontsize=40)
    figure.text(0.1, 0.6, "plain")
    with as_written(figure):
        families = {tuple(text.get_fontfamily()) for text in figure.findobj(Text)}
    assert families == {("sans-serif", "Squares")}
    (tmp_path / "drawn.png").write_bytes(as_png(figure))
    # Squares are filled, unlike the frames in the place of letters that are not there.
    dark = np.asarray(Image.open(tmp_path / "drawn.png").convert("L")) < 50
    assert dark[40:].mean() > 0.2


def test_letters_that_no_typeface_has_are_told_once(typefaces, capsys: pytest.CaptureFixture[str]):
    typefaces()
    for name in (FRUIT, FRUIT[0], FRUIT):
        figure = Figure((2, 1))
        figure.text(0.1, 0.1, name)
        as_png(figure)
        assert runs(name) == [(name, None)]
    assert capsys.readouterr().err.splitlines() == [
        "no font on this machine has the characters 果 物; figures show boxes instead. "
        "Install one, such as Noto (Debian: fonts-noto, fonts-noto-cjk)"
    ]


def test_letters_that_are_there_are_not_told(typefaces, capsys: pytest.CaptureFixture[str]):
    typefaces()
    assert runs("Käse, чай & \u200bñ") == [("Käse, чай & \u200bñ", None)]
    assert capsys.readouterr().err == ""


def test_every_figure_is_written_by_those_that_see_to_this():
    folder = Path(lettering.__file__).parents[1]
    writers = [p.name for p in folder.rglob("*.py") if "savefig(" in p.read_text()]
    assert sorted(writers) == ["panels.py"]
