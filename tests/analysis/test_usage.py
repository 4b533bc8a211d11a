"""Counts of blocks, and what they say about classes, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crumb.analysis.block_classes import (
    correlation_figures,
    count_table,
    cramers_v,
    information_panel,
    lift_panel,
    lifts,
    mutual_information,
    telling_blocks,
)
from crumb.analysis.block_images import BlockImage, block_images_panel, uses_of
from crumb.analysis.usage import (
    BlockCounts,
    class_usage_panel,
    count_blocks,
    entropy,
    entropy_share,
    usage_figures,
    usage_panel,
)

tables = st.lists(
    st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=2, max_size=5
).filter(lambda rows: any(map(any, rows)))


def counts(*by_block: list[int]) -> BlockCounts:
    """One slice; a row a block, a column a class."""
    return BlockCounts(np.array([by_block]), ["bed", "car"])


def test_every_index_is_counted_once():
    # Two images, two positions, two slices; three blocks, two classes.
    codes = torch.tensor([[0, 1, 0, 2], [2, 2, 0, 1]], dtype=torch.uint8)
    found = count_blocks(codes, np.array([1, 0]), slices=2, blocks=3, classes=2)
    np.testing.assert_array_equal(found[0], [[1, 2], [0, 0], [1, 0]])
    np.testing.assert_array_equal(found[1], [[0, 0], [1, 1], [1, 1]])


def test_indices_of_two_bytes():
    codes = torch.tensor([[0, 299]]).to(torch.uint16)
    found = count_blocks(codes, np.array([0]), slices=1, blocks=300, classes=1)
    assert found.sum() == 2
    assert found[0, 299, 0] == 1


def test_entropy():
    assert entropy(np.array([0.5, 0.5, 0, 0])) == 1
    assert entropy(np.array([1.0, 0, 0, 0])) == 0
    assert entropy(np.array([0.5, 0.25, 0.125, 0.125])) == 1.75
    assert entropy_share(np.array([0.5, 0.5, 0, 0])) == 50
    assert entropy_share(np.array([1.0])) == 100


def test_frequencies_are_shares_of_all_indices():
    """Not divided by the number of images once more, as in the published program."""
    used = counts([6, 0], [2, 4], [0, 0], [0, 4])
    np.testing.assert_array_equal(used.frequency, [0.375, 0.375, 0, 0.25])
    np.testing.assert_array_equal(used.of_class("bed"), [0.75, 0.25, 0, 0])
    figures = usage_figures(used)
    assert figures["blocks never used"] == 1
    assert figures["most frequent block, % of the indices"] == 37.5
    bits = -2 * 0.375 * math.log2(0.375) + 0.5
    assert figures["entropy of block usage, bits"] == pytest.approx(bits)
    assert figures["entropy of block usage, % of the maximum"] == pytest.approx(50 * bits)


def test_the_tallest_bar_stays():
    panel = usage_panel({"as it is": [counts([90, 0], [2, 4], [0, 0], [0, 4])]})
    shares = [row[1] for row in panel.rows]
    assert shares == [90, 6, 4, 0]
    assert "One run" in panel.caption


def test_usage_of_three_runs_before_and_after():
    runs = [counts([n, 0], [2, 4], [0, 4]) for n in (6, 8, 10)]
    panel = usage_panel({"as it is": runs, "before tuning": runs[:1]})
    assert panel.header[1:] == [
        f"{name}, {what}" for name in ("as it is", "before tuning") for what in ("%", "low", "high")
    ]
    mean, low, high = map(float, panel.rows[0][1:4])  # pyright: ignore[reportArgumentType]
    assert mean == pytest.approx(100 * np.mean([6 / 16, 8 / 18, 10 / 20]))
    assert low < mean < high


def test_usage_by_class():
    panel = class_usage_panel({"as it is": [counts([6, 0], [6, 4], [0, 0], [0, 0])]})
    assert list(panel.rows[0]) == ["bed", "as it is", 1, None, None, 50, 2, None, None]
    assert list(panel.rows[1]) == ["car", "as it is", 0, None, None, 0, 3, None, None]


def test_a_block_that_decides_the_class():
    table = np.array([[5, 0], [0, 5]])
    assert mutual_information(table) == 1
    assert cramers_v(table) == 1
    assert correlation_figures(counts([5, 0], [0, 5])) == {
        "block and class: information, bits an index": 1,
        "block and class: Cramér's V": 1,
    }


def test_a_block_that_says_nothing():
    table = np.array([[2, 4], [3, 6], [0, 0]])
    assert mutual_information(table) == pytest.approx(0, abs=1e-12)
    assert cramers_v(table) == pytest.approx(0, abs=1e-6)
    assert cramers_v(np.array([[2, 4], [0, 0]])) == 0


def test_cramers_v_by_hand():
    # Expected 3, 3, 3, 3: chi squared 4/3 of 12 indices.
    assert cramers_v(np.array([[4, 2], [2, 4]])) == pytest.approx((4 / 3 / 12) ** 0.5)


@given(tables)
def test_information_is_between_nothing_and_the_entropy_of_the_classes(rows):
    table = np.array(rows)
    assert -1e-9 <= mutual_information(table) <= entropy(table.sum(0) / table.sum()) + 1e-9
    assert 0 <= cramers_v(table) <= 1 + 1e-9


def test_lifts_and_the_blocks_that_tell():
    # Block 1 is only of car; the others are of both alike, 2 never used.
    used = counts([4, 4], [0, 4], [0, 0], [4, 0])
    np.testing.assert_allclose(
        lifts(used), [[0, 0], [-np.inf, 1], [np.nan, np.nan], [1, -np.inf]], atol=1e-12
    )
    assert telling_blocks(used).tolist() == [1, 3, 0, 2]
    panel = lift_panel(used, 0)
    assert list(panel.rows[0]) == [1, "bed", 0, None]
    assert list(panel.rows[1]) == [1, "car", 50, pytest.approx(1)]


def test_information_by_slice_and_the_table_of_counts():
    both = BlockCounts(np.array([[[5, 0], [0, 5]], [[2, 2], [3, 3]]]), ["bed", "car"])
    panel = information_panel([both])
    assert [list(row) for row in panel.rows] == [
        [1, 1, None, None, 1],
        [2, pytest.approx(0, abs=1e-12), None, None, pytest.approx(0, abs=1e-6)],
    ]
    header, rows = count_table(both)
    assert header == ["slice", "block", "bed", "car"]
    assert rows == [[1, 0, 5, 0], [1, 1, 0, 5], [2, 0, 2, 2], [2, 1, 3, 3]]


def test_where_a_block_is_chosen():
    # One row of two positions with two slices each.
    codes = torch.tensor([[3, 3, 0, 3], [0, 1, 2, 3]], dtype=torch.uint8)
    assert uses_of(codes, 3, (1, 2)).tolist() == [[[2, 1]], [[0, 1]]]
    image = BlockImage(3, "bed", "a.png", np.zeros((4, 4, 3), np.uint8), np.array([[2, 0]]))
    panel = block_images_panel([[image]], 0)
    assert [list(row) for row in panel.rows] == [[3, "a.png", "bed", 0, 0, 2]]
