from __future__ import annotations

import pytest

from crumb.benchmarks import waiting


def test_sleeping_is_divided_by_spinning(place, monkeypatch: pytest.MonkeyPatch):
    called = []

    def in_process(policy: str, _: object) -> list[float]:
        called.append(policy)
        return [3.0, 1.0] if policy == "sleep" else [2.0, 4.0]

    monkeypatch.setattr(waiting, "_in_process", in_process)
    (found,) = waiting.measure(place)
    assert called == ["sleep", "spin"]
    assert found.ratio == 1.5
    assert found.at_most == 1.03
    assert found.details == {"cpu_seconds_sleep": 1.0, "cpu_seconds_spin": 4.0}


def test_a_process_prints_wall_and_cpu_seconds_of_a_step(capsys: pytest.CaptureFixture[str]):
    waiting.child("test_efficientnet", "blocks.4", 0.0)
    wall, cpu = map(float, capsys.readouterr().out.split())
    assert wall > 0
    assert cpu > 0
