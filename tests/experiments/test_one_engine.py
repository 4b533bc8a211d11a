"""All cells of a grid have one engine, whatever auto would come to for each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crumb.cli import ablate as ablate_command
from crumb.cli import tune as tune_command
from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.experiments.ablation import study_of
from crumb.experiments.grid import Grid, with_one_engine
from crumb.experiments.tune import _arrange, plan
from crumb.files import read_toml, write_toml
from crumb.nets import engines
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig
from crumb.stream.settings import CONFIG, FORMAT, VERSION

pytestmark = pytest.mark.usefixtures("all_engines")
Fastest = Callable[[str], None]


@pytest.fixture
def words(dataset: Dataset, network_words: list[str], tmp_path: Path) -> list[str]:
    words = ["--dataset", str(dataset.folder), *network_words, "--output", str(tmp_path / "out")]
    return [*words, "--engine", "auto", "--classes-per-task", "1"]


def has_engine(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    network = {"network": {"engine": name}}
    write_toml(folder / CONFIG, {"format": FORMAT, "version": VERSION, **network})


@pytest.mark.usefixtures("no_pictures")
def test_a_later_call_of_compare_has_the_engine_of_the_first(
    words: list[str],
    tmp_path: Path,
    fastest: Fastest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(engines, "is_installed", lambda name: name == "onnxruntime")
    short = ["--epochs-first-task", "1", "--batch-size", "12", "--no-mem-accuracy"]
    fastest("onnxruntime")
    assert main(["compare", "--methods", "ncm", *words, *short]) == 0
    fastest("torch")
    both = ["compare", "--methods", "ncm", "slda", *words, *short]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(engines, "is_installed", lambda name: False)
        assert main(both) == 0
    assert (
        "slda cannot be run: --engine onnxruntime: is not installed here; "
        "pip install onnxruntime onnx, or give another --output"
    ) in capsys.readouterr().out
    assert main(both) == 0
    files = [*(tmp_path / "out").glob(f"*/{CONFIG}")]
    found = {path.parent.name: read_toml(path, "")["network"]["engine"] for path in files}
    assert found == {"ncm_250000": "onnxruntime", "slda_250000": "onnxruntime"}
    capsys.readouterr()
    # A table of several engines, as an earlier version wrote it.
    path = tmp_path / "out" / "slda_250000" / CONFIG
    config = read_toml(path, "")
    config["network"]["engine"] = "torch"
    write_toml(path, config)
    assert main(["compare", "--methods", "ncm", *words, *short]) == 2
    assert "engine = torch, not onnxruntime" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_all_trials_and_arms_have_one_engine(
    engine: str, words: list[str], dataset: Dataset, fastest: Fastest
):
    fastest(engine)
    flags = ["--tasks", "2", "--trials", "2"]
    search = plan(*tune_command.settings(["finetune", *words, *flags]))
    grid = Grid(search.folder, "tune")
    assert _arrange(search, grid).network.engine == engine
    assert [cell.job.network.engine for cell in grid.cells] == [engine, engine]
    streamed = ["--pretrain-classes", *sorted(dataset.class_names.values())[:2]]
    study = study_of(*ablate_command.settings(["half_capacity", *words, *streamed]))
    assert study.base.network.engine == engine


def test_the_engine_is_that_of_the_first_cell_with_runs(tmp_path: Path):
    has_engine(tmp_path / "b", "openvino")
    has_engine(tmp_path / "c", "torch")
    (tmp_path / "a").mkdir()

    def found(network: NetworkConfig) -> str:
        config = StreamConfig(tmp_path)
        return with_one_engine(network, config, 0, tmp_path.glob("*"), {}).engine

    assert found(NetworkConfig()) == "openvino"
    assert found(NetworkConfig(engine="torch")) == "torch"
