"""Flags of the tests; what they share is in fixtures.py."""

from __future__ import annotations

import os

# Before torch is imported: tests run side by side, one thread each unless the caller says so.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Flags of our own."""
    parser.addoption("--write-golden-table", action="store_true", help="see test_golden_table.py")


def pytest_configure(config: pytest.Config) -> None:
    """The process that only hands tests to others does not import torch."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("tests.fixtures")
