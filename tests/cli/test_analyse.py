"""``crumb analyse`` from saved learners to figures, on the small data set."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crumb.analysis.learners import SavedRun, codebook_of, saved_runs, stored_codes
from crumb.cli.main import main
from crumb.cli.stream import settings
from crumb.errors import InputError
from crumb.methods.persistence import load_learner as load
from crumb.reports import panels
from crumb.reports.panels import read_panels
from crumb.stream.run import stream

pytestmark = pytest.mark.usefixtures("shared_features")
OF_A_LEARNER = {
    "block_classes",
    "block_images",
    "block_information",
    "block_usage",
    "block_usage_by_class",
    "embedding_pca",
    "perturbations",
    "reconstructions",
}


@pytest.fixture(scope="module")
def made(words, stores, tmp_path_factory) -> Path:
    """Two runs, with the learner after each task."""
    folder = tmp_path_factory.mktemp("analysed") / "results"
    flags = ["--runs", "2", "--save-model", "--save-tasks", "--blocks", "16", "--memory-size", "8"]
    stream(*settings([*words, *flags, "--epochs-first-task", "2", "--output", str(folder)]), stores)
    return folder


@pytest.fixture
def results(made, tmp_path) -> Path:
    """A copy, to write in."""
    return shutil.copytree(made, tmp_path / "crumb")


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Numbers alone are looked at; what test_of_a_results_folder draws is not drawn again."""
    write, again = panels.write_panel, OF_A_LEARNER | {"reconstruction_error", "exemplar_drift"}

    def written(panel: panels.Panel, folder: Path) -> list[Path]:
        if panel.name in again:
            panel = replace(panel, figure=panels.blank(1, 1))
        return write(panel, folder)

    monkeypatch.setattr("crumb.cli.analyse.write_panel", written)


def analyse(*words: object) -> None:
    assert main(["analyse", *map(str, words)]) == 0


def numbers(folder: Path) -> dict[tuple[str, int], float]:
    rows = csv.DictReader((folder / "analysis.csv").read_text().splitlines())
    return {(row["what"], int(row["run"])): float(row["value"]) for row in rows}


def test_of_a_results_folder(results, dataset, capsys):
    analyse(results, "--dataset", dataset.folder, "--frames", 2, "--images", 12)
    folder = results / "analysis"
    assert {panel.name for panel in read_panels(folder)} == OF_A_LEARNER | {
        "reconstruction_error",
        "exemplar_drift",
    }
    printed = capsys.readouterr().out
    assert "cosine of map and reconstruction" in printed
    assert printed.endswith(f"figures with their numbers: {folder}\n")
    found = numbers(folder)
    assert {run for _, run in found} == {0, 1}
    # What the stream has measured: the same learner on the same images.
    for record_run, row in enumerate(
        csv.reader((results / "top1_test_all_direct_all_runs.csv").read_text().splitlines())
    ):
        assert found["crumb: accuracy, %", record_run] == pytest.approx(float(row[-1]))
    assert 0 <= found["entropy of block usage, bits", 0] <= 4
    counts = [*csv.reader((folder / "block_class_counts.csv").read_text().splitlines())]
    # 48 channels make 6 slices of 8; 36 test images of 100 positions.
    length = load(results / "learner_run0.safetensors").config.block_length
    assert len(counts) - 1 == 48 // length * 16
    assert sum(int(n) for row in counts[1:] for n in row[2:]) == 36 * 100 * 48 // length


@pytest.mark.usefixtures("undrawn")
def test_figures_of_an_earlier_call_are_named(results, dataset, tmp_path, capsys):
    learner, out = results / "learner_run0.safetensors", tmp_path / "out"
    few = ("--dataset", dataset.folder, "--frames", 1, "--images", 8, "--output", out)
    analyse(results, *few)
    assert "earlier call" not in capsys.readouterr().out
    analyse(learner, *few)
    said = "files left by an earlier call: exemplar_drift, reconstruction_error\n"
    assert capsys.readouterr().out.endswith(said)


@pytest.mark.usefixtures("undrawn")
def test_the_drift_is_that_of_the_stored_indices(results, dataset, tmp_path):
    analyse(results, "--dataset", dataset.folder, "--output", tmp_path / "out")
    first, last = (load(results / f"learner_run0_task0{task}.safetensors") for task in (1, 2))
    rows = csv.DictReader((tmp_path / "out/exemplar_drift.csv").read_text().splitlines())
    drifts = {(row["stored in task"], row["tasks learned"]): row for row in rows}
    # After the last task nothing is stored.
    assert drifts.keys() == {("1", "1"), ("1", "2")}
    codes = torch.from_numpy(np.concatenate([*stored_codes(first).values()]))
    books = [codebook_of(one) for one in (first, last)]
    then, now = (book.decode(codes).detach() for book in books if book is not None)
    expected = ((now - then).square().flatten(1).sum(1) / then.square().flatten(1).sum(1)).mean()
    found = numbers(tmp_path / "out")
    each = [found["relative squared drift of the exemplars of task 1", run] for run in (0, 1)]
    assert each[0] == pytest.approx(expected.item(), rel=1e-4)
    assert 0 < float(drifts["1", "2"]["relative drift"]) == pytest.approx(np.mean(each))


@pytest.mark.usefixtures("undrawn")
def test_before_and_after(results, dataset, tmp_path):
    before = results / "learner_run{run}_task01.safetensors"
    out = tmp_path / "out"
    analyse(results, "--dataset", dataset.folder, "--before", before, "--output", out)
    found = numbers(out)
    assert found["relative squared change of the blocks", 1] > 0
    assert 0 <= found["indices that tuning has changed, %", 0] < 100
    header = (out / "block_usage.csv").read_text().splitlines()[0]
    assert "before tuning" in header
    same = results / "learner_run0.safetensors"
    analyse(same, "--dataset", dataset.folder, "--before", same, "--output", tmp_path / "same")
    unchanged = numbers(tmp_path / "same")
    assert unchanged["relative squared change of the blocks", 0] == 0
    assert unchanged["indices that tuning has changed, %", 0] == 0


@pytest.mark.usefixtures("undrawn")
def test_another_arm_and_stylised_pictures(results, streamed, dataset, tmp_path):
    other = streamed("--runs", "2", "--method", "finetune", "--save-model").folder
    # The same pictures under other endings: nothing is lost with them.
    styled = shutil.copytree(dataset.images, tmp_path / "styled")
    for path in [*styled.rglob("*.*")]:
        path.rename(path.with_suffix(".jpeg"))
    words = ("--versus", other, "--stylised", styled, "--output", tmp_path / "out")
    analyse(results, "--dataset", dataset.folder, *words)
    found = numbers(tmp_path / "out")
    lost = {
        arm: found[f"{arm}: lost with positions permuted, %", 1] for arm in ("crumb", "finetune")
    }
    more = found["crumb loses less with positions permuted, points", 1]
    assert more == pytest.approx(lost["finetune"] - lost["crumb"])
    assert found["crumb: lost with stylised pictures, %", 0] == 0
    assert "perturbation_advantage" in {panel.name for panel in read_panels(tmp_path / "out")}


@pytest.mark.usefixtures("undrawn")
def test_a_learner_without_codebook(streamed, dataset):
    folder = streamed("--runs", "1", "--method", "er", "--save-model").folder
    analyse(folder / "learner_run0.safetensors", "--dataset", dataset.folder)
    assert [panel.name for panel in read_panels(folder / "analysis")] == ["perturbations"]
    assert not (folder / "analysis/block_class_counts.csv").exists()


def test_a_picture_that_is_missing(results, dataset, refused, tmp_path):
    (tmp_path / "styled").mkdir()
    words = ["analyse", results, "--dataset", dataset.folder, "--stylised", tmp_path / "styled"]
    refused(*words, names=("--stylised", "has no picture of"), at=results)


def test_other_runs_in_the_other_arm(results, dataset, refused):
    file = results / "learner_run1.safetensors"
    words = ["analyse", results, "--dataset", dataset.folder, "--versus", file]
    refused(*words, names=("--versus", "0, 1"), at=results)


def test_a_data_set_without_its_classes(results, dataset, refused, dataset_copy):
    path = dataset_copy / "dataset.json"
    path.write_text(path.read_text().replace('"bed"', '"bad"'))
    words = ["analyse", results, "--dataset", dataset_copy]
    refused(*words, names=("--dataset", "'bed'"), at=results)


def test_a_codebook_of_another_size(results, streamed, dataset, refused):
    other = streamed("--runs", "1", "--blocks", "8", "--save-model").folder
    words = ["--dataset", dataset.folder, "--before", other / "learner_run0.safetensors"]
    refused("analyse", results, *words, names=("--before", "(8, "), at=results)


def test_what_is_no_learner(dataset, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    words = ["--dataset", dataset.folder]
    refused(
        "analyse", tmp_path / "empty", *words, names=("holds no learner_run", "--no-save-model")
    )
    refused("analyse", tmp_path / "none", *words, names=("none",))
    refused("analyse", *words, names=())


def test_a_table_of_the_users_is_left_alone(results, dataset, refused):
    (results / "analysis").mkdir()
    (results / "analysis/analysis.csv").write_text("mine\n")
    words = ["analyse", results, "--dataset", dataset.folder]
    refused(*words, names=("analysis.csv", "does not belong to an analysis"), at=results)


def test_files_are_sorted_into_runs(tmp_path: Path):
    names = [f"learner_run{n}.safetensors" for n in ("1", "10", "1_task02", "1_task10", "2_task03")]
    paths = [tmp_path / name for name in names]
    assert saved_runs(paths, "LEARNERS") == [
        SavedRun(1, paths[0], {2: paths[2], 10: paths[3]}),
        SavedRun(2, paths[4], {3: paths[4]}),
        SavedRun(10, paths[1], {}),
    ]
    with pytest.raises(InputError, match="is of run 1, as is"):
        saved_runs([paths[0], tmp_path / "other" / names[0]], "LEARNERS")
