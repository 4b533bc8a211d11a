"""One results folder has one engine, whatever later calls would choose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crumb.files import read_toml, write_toml
from crumb.nets import fronts
from crumb.nets.config import NetworkConfig
from crumb.stream.results import Results
from crumb.stream.run import with_engine_of
from crumb.stream.settings import CONFIG, OtherSettingsError

Streamed = Callable[..., Results]
NCM = ["--method", "ncm", "--no-mem-accuracy"]


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Sets what is found to be fastest, by a process that remembers nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def is_now(name: str) -> None:
        seconds = {"torch": 2.0, "onnxruntime": 2.0, "openvino": 2.0, name: 1.0}
        monkeypatch.setattr(fronts, "_CHOSEN", {})
        monkeypatch.setattr(fronts, "_remembered", lambda key: None)
        monkeypatch.setattr(fronts, "seconds_per_image", lambda *_: seconds)

    return is_now


def engine_in(folder: Path) -> str:
    return read_toml(folder / CONFIG, "")["network"]["engine"]


@pytest.mark.usefixtures("all_engines")
def test_auto_is_settled_by_the_first_call(
    streamed: Streamed, fastest: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    fastest("onnxruntime")
    results = streamed(*NCM, "--engine", "auto", epochs=None, own_stores={})
    assert engine_in(results.folder) == "onnxruntime"
    fastest("torch")
    again = ["--output", str(results.folder), "--resume", str(results.folder)]
    opened: list[str] = []
    open_engine = fronts.open_engine

    def noted(network: object, name: str) -> object:
        opened.append(name)
        return open_engine(network, name)  # type: ignore[arg-type]

    monkeypatch.setattr(fronts, "open_engine", noted)
    streamed(*NCM, "--engine", "auto", "--runs", "2", *again, epochs=None, own_stores={})
    assert engine_in(results.folder) == "onnxruntime"
    assert opened == ["onnxruntime", "onnxruntime"], "one for the learner of each run"
    with pytest.raises(OtherSettingsError, match=r"engine = onnxruntime, not torch"):
        streamed(*NCM, "--engine", "torch", *again, epochs=None, own_stores={})


def test_folders_of_earlier_versions_are_of_torch(tmp_path: Path, streamed: Streamed):
    folder = streamed(*NCM, epochs=None).folder
    config = read_toml(folder / CONFIG, "")
    del config["network"]["engine"]
    write_toml(folder / CONFIG, config)
    assert with_engine_of(NetworkConfig(), folder).engine == "torch"
    assert with_engine_of(NetworkConfig(), tmp_path / "none").engine == "auto"
    streamed(*NCM, "--output", str(folder), "--resume", str(folder), epochs=None)
