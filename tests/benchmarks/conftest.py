"""A workplace of the tiny data set and the tiny network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crumb.benchmarks.workplace import Setting, Workplace, workplace
from crumb.data.index import Dataset
from crumb.nets.config import NetworkConfig


@pytest.fixture(scope="session")
def setting(dataset: Dataset, weights: Path) -> Setting:
    network = NetworkConfig("test_efficientnet", "blocks.4", str(weights))
    return Setting(network, dataset.folder, runs=3, repeats=1)


@pytest.fixture(scope="session")
def place(setting: Setting) -> Iterator[Workplace]:
    with workplace(setting) as place:
        yield place
