"""What all tests of streams have in common."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream writes dozens of small files; tests/test_files.py sees that each is synced."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
