"""Both ways of thinning at the end of a task: of few exemplars, and of many."""

from __future__ import annotations

import pytest

from crumb.memory import end_of_task


@pytest.fixture(params=[end_of_task.FEW, 0], ids=["few", "many"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any memory count as small, or as large."""
    monkeypatch.setattr(end_of_task, "FEW", request.param)
