from __future__ import annotations

import itertools

import pandas as pd

from crumb.data.index import COLUMNS
from crumb.data.sets.core50 import CLASS_NAMES, core50_index
from crumb.data.sets.registry import published_counts
from crumb.data.sets.toybox import CLASSES, Toybox
from crumb.data.stats import balance_report

TOYBOX_NAMES = {number: name for name, number in CLASSES.items()}


def toybox(objects: int = 29) -> pd.DataFrame:
    keys = itertools.product(range(1, 13), range(1, objects + 1), range(1, 11), range(1, 16))
    return pd.DataFrame([(*key, "x") for key in keys], columns=list(COLUMNS))


def test_published_toybox_counts_hold():
    lines = balance_report(toybox(), TOYBOX_NAMES, "toybox", Toybox.published).splitlines()
    assert lines[0] == "toybox: 52200 images of 12 classes"
    assert lines[3].split() == ["cup", "1", "4350", "290", "29"]
    assert "sessions in all: 3480" in lines
    assert lines[-1] == "the published counts hold"


def last_line(index: pd.DataFrame) -> str:
    return balance_report(index, TOYBOX_NAMES, "toybox", Toybox.published).splitlines()[-1]


def test_published_counts_that_do_not_hold_are_named():
    index = toybox()
    without_one_frame = index.drop(index.index[-1])
    last = balance_report(without_one_frame, TOYBOX_NAMES, "toybox", Toybox.published).splitlines()[
        -1
    ]
    assert last == "the published counts do not hold: images per class, images per session"
    last = balance_report(
        toybox(objects=28), TOYBOX_NAMES, "toybox", Toybox.published
    ).splitlines()[-1]
    assert "sessions per class, objects per class, sessions in all" in last
    assert "session," not in last


def test_other_classes_are_not_held_against_toybox():
    assert published_counts("toybox", CLASSES) == Toybox.published
    assert published_counts("toybox", [*CLASSES, "kite"]) == {}
    assert published_counts("mine", CLASSES) == {}
    assert "published" not in balance_report(toybox(2), TOYBOX_NAMES, "toybox")


def test_figures_of_an_uneven_index():
    rows = [(1, 1, 1, n, "x") for n in range(1, 16)] + [(1, 1, 2, n, "x") for n in range(1, 5)]
    rows += [(2, 1, 1, n, "x") for n in range(1, 3)]
    text = balance_report(pd.DataFrame(rows, columns=list(COLUMNS)), {1: "a", 2: "b"}, "tiny")
    table = {line[:19].strip(): line[19:].split() for line in text.splitlines()}
    assert table["images per session"] == ["7.00", "2", "15"]
    assert table["sessions per object"] == ["1.50", "1", "2"]
    assert table["sessions per class"] == ["1.50", "1", "2"]
    assert text.splitlines()[-2:] == ["sessions in all: 3", "sessions of at least 15 images: 1"]


def test_columns_are_aligned():
    lines = balance_report(core50_index(), CLASS_NAMES, "core50").splitlines()
    table = lines[2:13]
    assert len({len(line) for line in table}) == 1
    assert table[1].split() == ["plug_adapter", "1", "825", "55", "5"]
