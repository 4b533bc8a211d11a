"""One results folder has one engine, whatever later calls would choose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crumb.errors import InputError
from crumb.features.features import FeatureStore
from crumb.files import read_toml, write_toml
from crumb.nets import engines, fronts
from crumb.nets.config import NetworkConfig
from crumb.stream.results import Results
from crumb.stream.run import with_engine_of
from crumb.stream.settings import CONFIG, OtherSettingsError

Streamed = Callable[..., Results]
NCM = ["--method", "ncm", "--no-mem-accuracy"]


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


@pytest.mark.usefixtures("all_engines")
def test_without_the_engine_of_a_folder(streamed: Streamed, monkeypatch: pytest.MonkeyPatch):
    results = streamed(*NCM, "--engine", "onnxruntime", epochs=None, own_stores={})
    monkeypatch.setattr(engines, "is_installed", lambda name: False)
    again = [*NCM, "--engine", "auto", "--output", str(results.folder)]
    again += ["--resume", str(results.folder)]
    # What is finished is read.
    found = streamed(*again, epochs=None, own_stores={})
    assert found.finished()[0].scores == results.finished()[0].scores
    with pytest.raises(InputError) as refused:
        streamed(*again, "--runs", "2", epochs=None, own_stores={})
    assert refused.value.in_flags() == (
        "--engine onnxruntime: is not installed here; pip install onnxruntime onnx, or give "
        "another --output"
    )


@pytest.mark.usefixtures("all_engines")
def test_a_run_goes_on_with_openvino(streamed: Streamed):
    pytest.importorskip("openvino")
    shared: dict[str, FeatureStore] = {}
    once = streamed(*NCM, "--engine", "openvino", "--runs", "2", epochs=None, own_stores=shared)
    first = streamed(*NCM, "--engine", "openvino", epochs=None, own_stores=shared)
    again = ["--runs", "2", "--output", str(first.folder), "--resume", str(first.folder)]
    streamed(*NCM, *again, "--engine", "auto", epochs=None, own_stores=shared)
    scores = [[run.scores for run in found.finished()] for found in (once, first)]
    assert scores[0] == scores[1]


def test_folders_of_earlier_versions_are_of_torch(tmp_path: Path, streamed: Streamed):
    folder = streamed(*NCM, epochs=None).folder
    config = read_toml(folder / CONFIG, "")
    del config["network"]["engine"]
    write_toml(folder / CONFIG, config)
    assert with_engine_of(NetworkConfig(), folder).engine == "torch"
    assert with_engine_of(NetworkConfig(), tmp_path / "none").engine == "auto"
    streamed(*NCM, "--output", str(folder), "--resume", str(folder), epochs=None)
