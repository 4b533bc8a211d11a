"""What tests of engines share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

import pytest

from crumb.nets import fronts
from crumb.nets.engines import ENGINES


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is exported or chosen, on disk or in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fronts, "_OPEN", WeakValueDictionary())
    monkeypatch.setattr(fronts, "_CHOSEN", {})


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what is measured."""

    def are(**seconds: float) -> None:
        others = dict.fromkeys(ENGINES, 9.0)
        monkeypatch.setattr(fronts, "seconds_per_image", lambda *_: others | seconds)

    return are
