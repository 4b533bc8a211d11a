"""The page of a report: whole by itself, well-formed, escaped, and the same each time."""

from __future__ import annotations

import base64
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folders import record, write

from crumb.errors import InputError
from crumb.reports import figures as of_results
from crumb.reports.costs import panels_of_experiment, pareto, short_number
from crumb.reports.drawing import PALETTE, said_of_spread, shortened, slug, spread
from crumb.reports.figures import panels_of_family
from crumb.reports.inline_svg import inline
from crumb.reports.page import MARK, draw, figures
from crumb.reports.panels import Panel, StoredPanel, blank, stored, write_panel
from crumb.reports.reader import Report, gather
from crumb.reports.wording import when

VOID = {"meta", "img", "wbr", "br", "link"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and keeps what a test asks for."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "results"
    for place, method in enumerate(("crumb", "er", "offline")):
        finals = {run: 80.0 - 7 * place + run for run in range(3 - (place == 1))}
        write(folder / f"{method}_&_co", finals, method)
    return folder


@pytest.fixture(scope="module")
def html(results: Path) -> str:
    return draw(gather([results])).html


def test_it_is_well_formed_and_whole_by_itself(html: str):
    assert html.startswith(MARK)
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "base", "form"}
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "style"):
            assert "//" not in (attributes.get(name) or "")
    (style,) = re.findall("<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len({*identifiers})
    referred = re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)
    named = " ".join(a["aria-labelledby"] or "" for a in page.all("svg")).split()
    assert {*referred, *named} <= {*identifiers}


def test_it_can_be_read_without_seeing_it(html: str):
    page = Page(html)
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(page.all("svg"))
    assert len(page.all("title")) == 1 + len(page.all("svg")) == 1 + len(page.all("desc"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert {attributes["scope"] for attributes in page.all("th")} == {"row", "col"}


def test_it_is_light_and_dark(html: str):
    assert "@media (prefers-color-scheme: dark)" in html
    pictures = "".join(re.findall("<svg.*?</svg>", html, re.DOTALL))
    assert "#000000" not in pictures
    assert "currentColor" in pictures


def test_names_are_escaped(html: str):
    assert "<b>" not in html
    assert "&lt;b&gt;cup&lt;/b&gt;" in html
    assert "crumb_&_co" in "".join(Page(html).texts)


def test_the_same_results_give_the_same_bytes(results: Path, html: str):
    assert draw(gather([results])).html == html


def test_it_says_what_its_numbers_say(html: str):
    shown = "".join(Page(html).texts).replace("\u00a0", " ")
    assert "crumb_&_co has the highest final accuracy of 2 results: 81.0 %" in shown
    assert "81.0 ± 1.0" in shown
    assert "-7.0" in shown
    assert "crumb stream /data/toys" in shown
    assert "No sample frames: /data/toys: is no longer there" in shown


def test_each_run_has_its_date(html: str):
    rows = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d</td>", html)
    assert len(rows) == 3 + 2 + 3
    assert re.search(r"Crumb [0-9.]+, finished \d{4}-\d\d-\d\d", html)
    assert when(replace(record(0, 80.0), finished="2026-11-30T06:56:21Z")) == "2026-11-30 06:56"
    assert when(record(0, 80.0)) == "-"


def test_columns_that_hold_nothing_are_left_out(tmp_path: Path, html: str):
    assert "p, permutation, after Holm" in html
    for method, final in (("crumb", 80.0), ("er", 70.0)):
        write(tmp_path / method, {0: final}, method)
    single = draw(gather([tmp_path])).html
    assert "difference, points" in single
    for column in ("p, permutation", "p, Wilcoxon", "bootstrap", "effect size", "after Holm<"):
        assert column not in single


def test_wide_tables_say_that_they_go_on(html: str):
    hints = re.findall(r'<p class="hint">(\d+) columns: swipe the table sideways.</p>', html)
    heads = [head.count('scope="col"') for head in re.findall("<thead>(.*?)</thead>", html, re.S)]
    assert [*map(int, hints)] == [count for count in heads if count > 3]


def test_the_best_is_in_bold(html: str):
    assert re.findall("<strong>([^<.]*[.][^<]*)</strong></td>", html) == [
        "81.0 ± 1.0",
        "85.5 ± 0.5",
        "9.0 ± 1.0",
    ]


def test_numbers_of_a_figure_can_be_saved(results: Path, html: str):
    drawn = draw(gather([results]))
    links = [a for a in Page(html).all("a") if a.get("download")]
    saved = {
        a["download"]: base64.b64decode((a["href"] or "").partition("base64,")[2]).decode()
        for a in links
    }
    assert saved == {f"{panel.name}.csv": stored(panel).table for panel in drawn.panels}
    assert "accuracy_over_tasks.csv" in saved


def panels_of(report: Report) -> list[Panel]:
    (experiment,) = report.experiments
    (family,) = experiment.families
    return panels_of_family(family, "") + panels_of_experiment(experiment, "")


def test_every_axis_has_a_label_and_a_unit(results: Path):
    units = ("%", "points", "seconds", "bytes", "number of", "result")
    panels = panels_of(gather([results]))
    assert len(panels) == 5
    for panel in panels:
        for axes in panel.figure.axes:
            for label in (axes.get_xlabel(), axes.get_ylabel()):
                assert any(unit in label for unit in units), panel.name
        assert re.search("interval", panel.caption)


def test_numbers_of_the_curves_worked_by_hand(results: Path):
    curves, forgot, gaps, *costs = panels_of(gather([results]))
    rows = {(row[0], row[1]): [*row[2:]] for row in curves.rows}
    # 80, 81, 82: the half is 4.303 / sqrt(3); two runs reach from one to the other.
    assert rows["crumb_&_co", 2] == pytest.approx([81, 81 - 2.484, 81 + 2.484, 3], abs=1e-3)
    assert rows["er_&_co", 2] == [73.5, 73.0, 74.0, 2]
    assert [row[2] for row in forgot.rows if row[0] == "er_&_co"] == [16.5]
    assert [[*row] for row in gaps.rows] == [["er_&_co", -7.0, -7.0, -7.0, 2, 0.5]]
    assert [row[:3] for row in costs[0].rows if row[0] == "er_&_co"] == [["er_&_co", 1024.0, 73.5]]


def test_one_run_has_no_interval(tmp_path: Path):
    write(tmp_path / "crumb", {0: 70.0}, tasks=1)
    panels = panels_of(gather([tmp_path]))
    assert [panel.name for panel in panels] == ["accuracy_over_tasks"]
    assert "One run has no interval." in panels[0].caption
    assert panels[0].rows == [["crumb", 1, 90.0, None, None, 1]]
    assert spread([70.0]) is None


def test_many_results_stay_readable(tmp_path: Path):
    for number in range(30):
        write(tmp_path / f"arm{number}", {run: 50.0 + number + run for run in range(3)}, tasks=3)
    write(tmp_path / "unablated", dict.fromkeys(range(3), 40.0), tasks=3)
    curves, _, gaps, *_ = panels_of(gather([tmp_path]))
    drawn = [row[0] for row in curves.rows if row[1] == 1]
    assert drawn == [*(f"arm{number}" for number in range(29, 22, -1)), "unablated"]
    assert "23 more are in the tables" in curves.caption
    assert [row[0] for row in gaps.rows] == [f"arm{number}" for number in range(29, -1, -1)]


def test_what_a_bar_is():
    assert said_of_spread([1, 1]) == "One run has no interval."
    said = said_of_spread([5, 2, 3])
    assert said.startswith("The bars are 95 % intervals of the mean over 3 or 5 runs")
    assert "for two runs the bars span both values" in said


@given(st.dictionaries(st.integers(), st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1))
def test_no_other_beats_what_is_on_the_line(points):
    named = {str(name): point for name, point in points.items()}

    def beaten(point):
        return any(o[0] <= point[0] and o[1] >= point[1] and o != point for o in named.values())

    assert {*pareto(named)} == {name for name, point in named.items() if not beaten(point)}
    gains = [*pareto(named).values()]
    assert gains == sorted(gains)


def luminance(colour: str) -> float:
    """Of sRGB, as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_curves_stand_out_from_both_papers(html: str):
    papers = re.findall("--paper: (#[0-9a-f]{6})", html)
    assert len(papers) == 2
    for paper in papers:
        for colour in PALETTE:
            dark, light = sorted((luminance(paper), luminance(colour)))
            assert (light + 0.05) / (dark + 0.05) >= 3


def test_figures_found_in_results_are_shown(results: Path, tmp_path: Path):
    folder = shutil.copytree(results, tmp_path / "copy")
    drawing = blank(3, 2)
    drawing.subplots().set(xlabel="blocks (number)", ylabel="share, %")
    panel = Panel("usage", "Usage <i>", "Of blocks.", drawing, ["block", "share"], [[1, 2.5]])
    for name in ("crumb_&_co", "er_&_co"):
        write_panel(panel, folder / name / "analysis")
    drawn = draw(gather([folder]))
    page = Page(drawn.html)
    assert drawn.html.count("<strong>Usage &lt;i&gt;.</strong>") == 2
    assert len(page.all("svg")) == 7
    assert "usage" not in {own.name for own in drawn.panels}


def test_figures_of_one_result_have_their_place(results: Path, monkeypatch):
    def usage(records):
        drawing = blank(3, 2)
        drawing.subplots().set(xlabel="runs (number)", ylabel="share, %")
        return Panel("runs", "Runs", "One run.", drawing, ["runs"], [[len(records)]])

    monkeypatch.setattr(of_results, "confusion_panel", usage)
    monkeypatch.setattr(of_results, "class_forgetting_panel", lambda records: None)
    drawn = draw(gather([results]))
    assert [(p.name, p.rows) for p in drawn.panels[-1:]] == [("crumb_co_runs", [[3]])]
    Page(drawn.html)


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{}</svg>'


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("<script>alert(1)</script>", "holds <script>"),
        ("<foreignObject/>", "holds <foreignObject>"),
        ('<g onload="x()"/>', "holds onload"),
        ('<use href="http://example.org/x.svg#a"/>', "holds href"),
        ('<image href="data:text/html;base64,AAAA"/>', "holds href"),
        ('<path style="fill: url(http://example.org/x)"/>', "refers to another file"),
        ("<g>", "is not an SVG"),
    ],
)
def test_pictures_that_could_act_are_refused(content: str, match: str):
    with pytest.raises(InputError, match=match):
        inline(SVG.format(content), "f", "title", "caption")


def test_a_picture_becomes_part_of_the_page():
    content = (
        '<defs><style>*{}</style><clipPath id="c"/></defs><g id="unused">'
        '<path clip-path="url(#c)" style="stroke: #000000; fill: #FFFFFF"/></g>'
        "<text style=\"font-family: 'X', sans-serif; font-size: 9px\">a &lt; b</text>"
    )
    shown = inline(SVG.format(content), "f1", "a <title>", "c")
    assert '<title id="f1-title">a &lt;title&gt;</title>' in shown
    assert '<clipPath id="f1-c"/>' in shown
    assert 'clip-path="url(#f1-c)" style="stroke: currentColor; fill: var(--paper)"' in shown
    assert "unused" not in shown
    assert '<text style="font-size: 9px">a &lt; b</text>' in shown
    assert "style>" not in shown


def test_pictures_with_pixels_keep_their_colours():
    content = '<image href="data:image/png;base64,AAAA"/><path style="stroke: #000000"/>'
    shown = inline(SVG.format(content), "f", "t", "c")
    assert 'class="own-paper"' in shown
    assert "stroke: #000000" in shown


def test_long_tables_of_numbers_are_only_saved():
    rows = "".join(f"{number}\n" for number in range(1000))
    panel = StoredPanel("long", "Long", "c", SVG.format("<g/>"), f"n\n{rows}")
    assert "<table>" not in figures([(panel, "f")])
    short = figures([(StoredPanel("s", "S", "c", panel.svg, "n_a,b\n1.23456789,2\n3\n"), "f")])
    assert "1.<wbr>235</th>" in short
    assert short.count("<td") == 2


def test_small_parts():
    assert [short_number(value) for value in (0, 250_000, 1_500_000)] == ["0", "250 k", "1.5 M"]
    assert slug("a/b & c") == "a_b_c"
    assert shortened("n" * 29) == "n" * 29
    assert len(shortened("n" * 99)) == 29


def test_a_wide_figure_has_the_width_of_the_page():
    """Its words are too small in half of it."""
    shown = [figures([(stored(of_width(inches)), "f")]) for inches in (8.0, 9.0)]
    seen = [('<figure class="wide">' in one, 'class="pan"' in one) for one in shown]
    assert seen == [(False, False), (True, True)]


def of_width(inches: float) -> Panel:
    figure = blank(inches, 2)
    figure.subplots().set(xlabel="x, s", ylabel="y, %")
    return Panel("wide", "Wide", "Of two widths.", figure, ["x"], [[1]])
