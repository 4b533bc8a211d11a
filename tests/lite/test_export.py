"""What crumb export writes, and what it refuses."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.lite.conftest import taught
from tests.rounding import assert_rounded

from crumb import portable
from crumb.cli.main import main
from crumb.errors import InputError
from crumb.methods import exporting
from crumb.methods.exporting import export
from crumb.nets.pooled import with_classifier
from crumb.testing.networks import TERMS, images_of


def run(path, images):
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    return np.asarray(session.run(None, {portable.INPUT: pixels})[0])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_front_takes_any_number_of_images(folder_of, count):
    learner, images = taught("slda"), images_of(1, count, seed=7)
    path = folder_of(learner) / portable.FRONT
    with learner.inference():
        expected = learner.network.penultimate(learner.network.features(images))
    assert_rounded(run(path, images), expected, TERMS, 3)
    (opset,) = onnx.load(path).opset_import
    assert opset.version == json.loads((path.parent / portable.MODEL).read_text())["opset"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("slda", {}), ("slda", {"transform": "none", "dimensions": 3}), ("ncm", {"dimensions": 5})],
)
def test_the_other_graph_gives_probabilities_and_knows_the_labels(folder_of, name, settings):
    learner = taught(name, **settings)
    learner.add_classes(["never seen"])
    images = torch.cat([images_of(label, 2, seed=9) for label in range(3)])
    path = folder_of(learner) / portable.PREDICT
    found = run(path, images)
    expected = learner.predict_proba(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found[:, 3] == 0).all()
    (labels,) = [p.value for p in onnx.load(path).metadata_props if p.key == "classes"]
    assert json.loads(labels) == learner.classes


def test_generated_images_have_patches_of_three_sizes():
    one, eight, large = portable.reference_images(40)
    assert one.shape == (40, 40, 3)
    assert (one[0, 0] != one[0, 1]).all()
    assert (eight[:8, :8] == eight[0, 0]).all()
    assert (eight[0, 7] != eight[0, 8]).all()
    assert (large[:32, :32] == large[0, 0]).all()
    assert (large[0, 31] != large[0, 32]).all()


@pytest.mark.parametrize(
    ("found", "agree"),
    [
        ([[-100.0, -np.inf], [-50.0, -np.inf]], True),
        ([[-100.0, -np.inf], [-50.09, -np.inf]], True),
        ([[-100.0, -np.inf], [-50.11, -np.inf]], False),
        ([[-100.0, -9.0], [-50.0, -np.inf]], False),
        ([[np.nan, -np.inf], [-50.0, -np.inf]], False),
        ([[-100.0], [-50.0]], False),
    ],
)
def test_scores_agree_up_to_a_thousandth_of_the_largest(found, agree):
    stored = portable.as_lists(np.array([[-100.0, -np.inf], [-50.0, -np.inf]]))
    assert stored[0][1] is None
    assert portable.agrees(np.array(found), stored) is agree


def refused(learner, folder, words):
    before = [*folder.parent.iterdir()]
    with pytest.raises(InputError, match=words):
        export(learner, folder, "own.crumb")
    assert [*folder.parent.iterdir()] == before


def test_other_methods_are_refused_with_those_that_can_be_exported(tmp_path):
    learner = taught("er", lr=0.01, write_policy="on-arrival")
    refused(
        learner, tmp_path / "device", "own.crumb: is of method er, .*; use a model of slda or ncm"
    )


def test_a_model_without_classes_is_refused(tmp_path):
    refused(taught("ncm", 0), tmp_path / "device", "knows no class")


def test_a_learner_on_a_gpu_is_refused(tmp_path):
    learner = taught("ncm")
    learner.device = torch.device("cuda")
    refused(learner, tmp_path / "device", "is on a GPU.*; load it with device='cpu'")


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "device").mkdir()
    refused(taught("ncm"), tmp_path / "device", "exists and is not overwritten")


def test_nothing_is_left_of_a_folder_that_cannot_be_completed(tmp_path, monkeypatch):
    def full(*_):
        raise InputError("model.json", "cannot be written (no space)", "free space")

    monkeypatch.setattr(exporting, "write_json", full)
    (tmp_path / "own").mkdir()
    with pytest.raises(InputError, match="no space"):
        export(taught("ncm"), tmp_path / "own" / "new" / "devices" / "one", "own.crumb")
    assert [*tmp_path.rglob("*")] == [tmp_path / "own"]


def test_a_network_that_computes_other_features_is_refused(tmp_path, monkeypatch):
    other = taught("ncm")
    with torch.no_grad():
        other.network.front.stem.weight.mul_(1.01)
    front = exporting.export_pooled(other.network)
    monkeypatch.setattr(exporting, "export_pooled", lambda network: front)
    refused(taught("ncm"), tmp_path / "device", "other results")


def test_a_classifier_that_computes_other_probabilities_is_refused(tmp_path, monkeypatch):
    def wrong(front, weights, *others):
        return with_classifier(front, 1.01 * weights, *others)

    monkeypatch.setattr(exporting, "with_classifier", wrong)
    refused(taught("ncm"), tmp_path / "device", "other results")


def test_the_command_names_its_files_and_what_is_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    taught("slda").save("own.crumb")
    assert main(["export", "own.crumb"]) == 0
    printed = capsys.readouterr().out
    names = {path.name for path in (tmp_path / "own-device").iterdir()}
    assert names == {
        getattr(portable, n) for n in ("MODEL", "FRONT", "PREDICT", "NETWORK", "STATE")
    }
    assert all(name in printed for name in names)
    assert printed.splitlines()[-1] == "next: python -m crumb_lite predict own-device CLIP"
    # A second time, it is there.
    assert main(["export", "own.crumb"]) == 2
    assert "own-device: exists" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["boxes", "clock", "errors", "portable", "resize", "turns"])
def test_what_both_packages_need_exists_once(name):
    home = "crumb" if name in ("errors", "portable") else "crumb.data"
    one, other = (import_module(f"{package}.{name}") for package in (home, "crumb_lite"))
    assert one.__file__
    assert other.__file__
    assert Path(one.__file__).samefile(other.__file__)


def test_the_licence_goes_with_crumb_lite():
    root = Path(__file__).parents[2]
    assert (root / "lite/LICENSE").samefile(root / "LICENSE")
