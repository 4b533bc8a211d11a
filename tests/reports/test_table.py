"""One table in each of its formats."""

from __future__ import annotations

import csv
from html.parser import HTMLParser

from crumb.reports.intervals import PLUS_MINUS, estimate
from crumb.reports.table import Column, Table, plain

# 1, 2, 3: the half is 4.303 / sqrt(3).
HALF = 2.4841377117503303
ODD = "a|b_$x$ <茶> \\{5 %}"
TABLE = Table(
    [
        Column("name", kind="words"),
        Column("accuracy, %", ".1f", spread=True),
        Column("bytes", ","),
        Column("how", kind="code"),
    ],
    [["er", estimate([1.0, 2.0, 3.0]), 12345, "crumb x"], [ODD, None, None, "y & z"]],
    "What <they> reach.",
    frozenset({(0, 1)}),
)
PLAIN = plain(["name", "first", "second thing"], [["a", "1", "2 or 3"], ["b", "", "4"]])


def test_text_has_numbers_flush_right():
    assert TABLE.text().splitlines() == [
        "name                accuracy, %   bytes  how",
        "--------------------------------------------",
        "er                    2.0 ± 1.0  12,345  crumb x",
        f"{ODD}            -       -  y & z",
        PLUS_MINUS,
    ]


def test_what_the_sign_means_is_said_only_where_it_stands():
    single = Table(TABLE.columns, [["er", estimate([1.0]), 12345, "crumb x"]])
    for text in (single.text(), single.markdown(), single.latex(), str(single.html())):
        assert "±" not in text


def test_text_that_is_too_wide_becomes_paragraphs():
    assert max(map(len, PLAIN.text(25).splitlines())) == 25
    assert PLAIN.text(24).splitlines() == [
        "name",
        "----",
        "a",
        "  first: 1;",
        "  second thing: 2 or 3",
        "b",
        "  second thing: 4",
    ]
    long = plain(["name", "classes"], [["a", " ".join(["word"] * 12)]]).text(30)
    assert max(map(len, long.splitlines())) <= 30
    assert long.count("word") == 12


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "| name | accuracy, % | bytes | how |",
        "| --- | --- | --- | --- |",
        "| er | 2.0 ± 1.0 | 12,345 | crumb x |",
        "| a\\|b_$x$ <茶> \\{5 %} | - | - | y & z |",
        "",
        PLUS_MINUS,
    ]


def test_csv_has_all_digits_and_the_half_in_its_own_column():
    assert [*csv.reader(TABLE.csv().splitlines())] == [
        ["name", "accuracy, %", "accuracy, %_half", "bytes", "how"],
        ["er", "2.0", repr(HALF), "12345", "crumb x"],
        [ODD, "", "", "", "y & z"],
    ]


def test_latex_escapes_what_it_would_read():
    assert TABLE.latex().splitlines() == [
        f"% {PLUS_MINUS}",
        r"\begin{tabular}{lrrl}",
        r"\toprule",
        r"name & accuracy, \% & bytes & how \\",
        r"\midrule",
        r"er & \textbf{2.0 $\pm$ 1.0} & 12,345 & crumb x \\",
        r"a\textbar{}b\_\$x\$ \textless{}茶\textgreater{} \textbackslash{}\{5 \%\} & - & - "
        r"& y \& z \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_latex_has_a_minus_and_not_a_hyphen():
    table = plain(("arm-1", "from"), [["er-2", "-3.0 to -1"], ["-", None]])
    assert table.latex().splitlines()[2:6] == [
        r"arm-1 & from \\",
        r"\midrule",
        r"er-2 & $-$3.0 to $-$1 \\",
        r"- & - \\",
    ]


class Cells(HTMLParser):
    """Text of the elements that are asked for, and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None, str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag in ("th", "td", "caption"):
            self.found.append((tag, dict(attrs).get("class"), ""))

    def handle_data(self, data):
        if self.found:
            *rest, (tag, kind, text) = self.found
            self.found = [*rest, (tag, kind, text + data.strip("\n"))]


def test_columns_without_a_value_are_left_out():
    rows = [["a", None, 1, "-"], ["b", None, None, "-"]]
    table = Table([Column(name) for name in "wxyz"], rows, best=frozenset({(0, 2)})).filled()
    assert (table.head, table.rows) == (["w", "y"], [["a", 1], ["b", None]])
    assert table.best == {(0, 1)}


def test_html_is_escaped():
    html = str(TABLE.html())
    cells = Cells(html).found
    meaning = PLUS_MINUS.replace(" %", "\u00a0%")
    assert cells[0] == ("caption", None, f"What <they> reach. {meaning}")
    assert [kind for _, kind, _ in cells[1:5]] == ["words", "number", "number", "code"]
    name, *others = cells[-4:]
    assert name == ("th", None, ODD.replace(" %", "\u00a0%"))
    assert others == [("td", "number", "-"), ("td", "number", "-"), ("td", "code", "y & z")]
    assert "<strong>2.0 ± 1.0</strong>" in html
    assert "<code>crumb x</code>" in html
