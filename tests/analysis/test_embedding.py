"""Maps on a plane, and pictures of reconstructions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crumb.analysis import embedding
from crumb.analysis.embedding import check_embedding, embedding_panel, principal_components
from crumb.analysis.maps import Shown, energy, maps_panel
from crumb.errors import InputError


def test_principal_components_of_a_line():
    along = np.array([[3.0], [1.0], [-1.0], [-3.0]])
    points = along * np.array([0.6, -0.8, 0.0]) + np.array([1.0, 2.0, 3.0])
    mean, directions, variance = principal_components(points, 2)
    np.testing.assert_allclose(mean, [1, 2, 3])
    # The largest entry is made positive.
    np.testing.assert_allclose(directions[0], [-0.6, 0.8, 0])
    np.testing.assert_allclose(variance, [1, 0], atol=1e-12)


def test_reconstructions_are_placed_on_the_axes_of_the_maps():
    maps = np.array([[2.0, 0, 0], [-2.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    rebuilt = maps / 2 + np.array([0, 0, 7.0])
    panel = embedding_panel(maps, rebuilt, [0, 0, 1, 1], ["bed", "car"], "pca")
    assert panel is not None
    assert panel.name == "embedding_pca"
    assert panel.header[-2:] == [
        f"principal component {n} ({share} % of the variance), activation"
        for n, share in ((1, 80), (2, 20))
    ]
    places = np.array([row[3:] for row in panel.rows])
    np.testing.assert_allclose(places[:4], maps[:, :2], atol=1e-12)
    np.testing.assert_allclose(places[4:], maps[:, :2] / 2, atol=1e-12)
    assert [row[1] for row in panel.rows] == ["bed", "bed", "car", "car"] * 2


def test_too_few_to_place():
    points = np.eye(3)
    assert embedding_panel(points, points, [0, 0, 0], ["bed"], "pca") is None


def test_tsne_keeps_groups_together():
    pytest.importorskip("sklearn")
    random = np.random.default_rng(0)
    maps = np.repeat(np.eye(2, 20) * 50, 12, axis=0) + random.normal(size=(24, 20))
    labels = [0] * 12 + [1] * 12
    panels = [embedding_panel(maps, maps + 0.1, labels, ["bed", "car"], "tsne") for _ in range(2)]
    assert panels[0] is not None
    assert panels[1] is not None
    assert panels[0].rows == panels[1].rows
    places = np.array([row[3:] for row in panels[0].rows], float)
    cars = np.array([row[1] == "car" for row in panels[0].rows])
    apart = np.linalg.norm(places[cars].mean(0) - places[~cars].mean(0))
    assert apart > 2 * max(places[cars].std(0).max(), places[~cars].std(0).max())


def test_without_scikit_learn_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    check_embedding("pca")
    with pytest.raises(InputError, match=r"--embedding tsne.*crumb-learn\[analysis\]"):
        check_embedding("tsne")


def test_energy_is_the_length_over_channels():
    maps = torch.tensor([[[[3.0, 0.0]], [[4.0, 1.0]]]])
    assert energy(maps).tolist() == [[[5.0, 1.0]]]


def test_a_row_for_every_position():
    maps = [np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([[5.0, 6.0]])]
    panel = maps_panel([Shown("bed", "bed/a.png", np.zeros((4, 4, 3), np.uint8), *maps)])
    assert [list(row) for row in panel.rows] == [
        ["bed/a.png", "bed", 0, 0, 1, 3, 5],
        ["bed/a.png", "bed", 0, 1, 2, 4, 6],
    ]
