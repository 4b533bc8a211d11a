"""crumb-lite beside Crumb: the same predictions, and lessons equal up to the rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.lite.conftest import arrays, taught

from crumb.errors import InputError as TooSmall
from crumb.methods.persistence import load_learner
from crumb.methods.registry import find_method
from crumb.teaching.files import held, replace_model
from crumb.teaching.lesson import BATCH, self_test, show
from crumb.testing.networks import images_of, tiny_network
from crumb_lite import load
from crumb_lite.budget import Budget
from crumb_lite.classifiers import whitening
from crumb_lite.errors import InputError
from crumb_lite.halves import pack, round_randomly, unpack
from crumb_lite.moments import Moments

KINDS = [
    ("slda", {}),
    ("slda", {"crumbs": 0, "transform": "none"}),
    ("slda", {"budget_bytes": 700, "classes_expected": 3}),
    ("ncm", {}),
    ("ncm", {"budget_bytes": 60, "classes_expected": 3}),
]


def full_scores(learner, images):
    with learner.evaluation():
        return learner.scores(learner.network.features(images)).numpy()


def assert_same_scores(model, learner, seed=5):
    """Within 1e-4 of their size."""
    for label in range(3):
        expected = full_scores(learner, images_of(label, 4, seed))
        found = model.scores(arrays(label, 4, seed))
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def states(model, learner):
    """Statistics of both by name."""
    kept = {name: value.numpy() for name, value in learner.kept().items()}
    own = {f"moments.{name}": value for name, value in model.moments.state().items()}
    if model.sample is not None:
        own |= {f"crumbs.{name}": value for name, value in model.sample.state().items()}
    return own | {"directions": model.directions}, kept


@pytest.mark.parametrize(("name", "settings"), KINDS)
def test_predictions_are_the_same(folder_of, name, settings):
    learner = taught(name, **settings)
    model = load(folder_of(learner), threads=1)
    assert_same_scores(model, learner)
    images = images_of(2, 3, seed=8)
    assert model.predict(arrays(2, 3, seed=8)) == learner.predict(images)
    expected = learner.predict_proba(images)
    np.testing.assert_allclose(model.probabilities(arrays(2, 3, seed=8)), expected, atol=1e-4)
    if name == "slda":
        assert model.self_test() == self_test(learner)


@pytest.mark.parametrize(("name", "settings"), KINDS)
def test_a_lesson_differs_by_the_rounding_alone(folder_of, name, settings):
    """After one batch: two roundings of the same number are at most one step apart."""
    learner = taught(name, 2, **settings)
    model = load(folder_of(learner), threads=1)
    show(learner, images_of(2, BATCH), "blue")
    model.observe(arrays(2, BATCH), "blue")
    own, full = states(model, learner)
    assert own.keys() == full.keys()
    for key in ("moments.counts", "moments.pooled", "moments.centre", "directions", "crumbs.held"):
        if key in full:
            np.testing.assert_array_equal(own[key], full[key])
    for key in {"moments.means", "moments.triangle"} & full.keys():
        step = np.spacing(np.maximum(np.abs(own[key]), np.abs(full[key])))
        assert (np.abs(own[key].astype(float) - full[key]) <= step).all(), key
    assert model.predict(arrays(2, 5, seed=6)) == ["blue"] * 5


@pytest.mark.parametrize("name", ["slda", "ncm"])
def test_after_a_long_lesson_the_probabilities_are_close(folder_of, name):
    """Ten batches: the errors of the rounding do not add up."""
    learner = taught(name, 2)
    model = load(folder_of(learner), threads=1)
    show(learner, images_of(2, 10 * BATCH), "blue")
    assert model.observe(arrays(2, 10 * BATCH), "blue") == 320
    for label in range(3):
        expected = learner.predict_proba(images_of(label, 5, seed=6))
        found = model.probabilities(arrays(label, 5, seed=6))
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_stored_features_of_a_first_lesson_are_the_same(folder_of):
    """A class of fewer frames than are stored is stored whole, by either package."""
    learner = taught("slda", 2)
    model = load(folder_of(learner), threads=1)
    show(learner, images_of(2, 9), "blue")
    model.observe(arrays(2, 9), "blue")
    assert model.sample is not None
    codes = learner.crumbs.codes.numpy()
    # An index may differ where two blocks are equally near up to the rounding of the statistics.
    assert (model.sample.codes[2, :9] == codes[2, :9]).mean() > 0.9
    np.testing.assert_array_equal(model.sample.codes[:2], codes[:2])


def test_a_lesson_begun_in_one_package_is_continued_in_the_other(folder_of):
    folder = folder_of(taught("slda", 1, budget_bytes=700, classes_expected=3))
    model = load(folder, threads=1)
    model.observe(arrays(1, 20), "green")
    model.save()
    learner = load_learner(folder, "cpu")
    assert learner.classes == ["red", "green"]
    assert learner.frames_seen() == 60
    assert_same_scores(model, learner)
    own, full = states(model, learner)
    for key, value in full.items():
        np.testing.assert_array_equal(own[key], value)

    show(learner, images_of(2, 20), "blue")
    with held(folder) as found:
        replace_model(learner, found)
    again = load(folder, threads=1)
    assert again.classes == ["red", "green", "blue"]
    assert_same_scores(again, learner)


def test_the_whole_learner_comes_back_from_the_folder(folder_of, tmp_path):
    """To the bit: random numbers continue as well."""
    learner = taught("slda", 2)
    learner.calibrate(images_of(0, 3, seed=2), "red")
    loaded = load_learner(folder_of(learner), "cpu")
    for one in (learner, loaded):
        show(one, images_of(2, 20), "blue")
        one.save(tmp_path / f"{one is learner}.crumb")
    assert (tmp_path / "True.crumb").read_bytes() == (tmp_path / "False.crumb").read_bytes()


@pytest.mark.parametrize(("name", "settings"), KINDS)
def test_forgetting_is_the_same_to_the_bit(folder_of, name, settings):
    learner = taught(name, **settings)
    model = load(folder_of(learner), threads=1)
    learner.forget("green")
    model.forget("green")
    own, full = states(model, learner)
    for key, value in full.items():
        np.testing.assert_array_equal(own[key], value)
    with pytest.raises(
        InputError, match="'green': is not a class of this model; choose one of red"
    ):
        model.forget("green")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("slda", {"budget_bytes": 600, "classes_expected": 2, "crumbs": 4}),
        ("slda", {"budget_bytes": 600, "classes_expected": 2, "crumbs": 0}),
        ("slda", {"dimensions": 5}),
        ("ncm", {"budget_bytes": 150, "classes_expected": 2}),
    ],
)
def test_the_budget_is_divided_in_the_same_way(name, settings):
    """Directions and stored vectors for each number of classes, until not one direction fits."""
    kind = find_method(name)
    learner: Any = kind(tiny_network(), kind.Config(**settings))
    budget = Budget(vars(learner.config), learner.covariance)
    dimensions, each = learner.dimensions, settings.get("crumbs", 16)
    for classes in range(1, 200):
        try:
            learner.add_classes([str(classes)])
        except TooSmall as error:
            with pytest.raises(InputError, match=str(error).partition("at least ")[2]):
                budget.directions(classes, dimensions)
            return
        dimensions = budget.directions(classes, dimensions)
        assert dimensions == learner.dimensions
        if name == "slda" and learner.crumbs is not None:
            # What was once given up does not come back.
            each = min(each, budget.vectors(classes, dimensions))
            assert each == learner.crumbs.each
    assert "budget_bytes" not in settings


def test_a_lesson_that_needs_room_drops_directions_and_stays_in_the_budget(folder_of):
    learner = taught("slda", 2, budget_bytes=300, classes_expected=2, crumbs=8)
    model = load(folder_of(learner), threads=1)
    before = model.directions.shape[1]
    for label in range(2, 7):
        model.observe(arrays(label, 10), f"class {label}")
    assert model.directions.shape[1] < before
    model.save()
    loaded: Any = load_learner(model.folder, "cpu")
    total = loaded.bytes_held()
    assert total.replay + total.extra <= 300
    assert loaded.dimensions == model.directions.shape[1]


def test_statistics_are_those_of_all_frames_at_once():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(4000, 3)).astype(np.float32) * 5 + 2
    labels = np.arange(4000) % 2
    vectors[labels == 1] += 3
    state = {"centre": np.zeros(3, np.float16), "means": np.zeros((2, 3), np.float16)}
    state |= {"counts": np.zeros(2, np.int32), "pooled": np.zeros(2, np.int32)}
    moments = Moments(state | {"triangle": np.zeros(6, np.float16)})
    for start in range(0, 4000, 40):
        part = slice(start, start + 40)
        moments.add(vectors[part], labels[part], generator)
    means = np.stack([vectors[labels == label].mean(0) for label in range(2)])
    deviations = vectors - means[labels]
    covariance = deviations.T @ deviations / 4000
    # The errors that ClassMoments documents, of means 1 % of the deviation within classes.
    np.testing.assert_allclose(moments.mean_vectors(), means, atol=4 * 0.01 * 5)
    np.testing.assert_allclose(moments.covariance(), covariance, atol=4 * 0.01 * 25)
    assert moments.counts.tolist() == [2000, 2000]
    mean, spread = moments.overall()
    np.testing.assert_allclose(mean * moments.scale, vectors.mean(0), atol=0.2)
    np.testing.assert_allclose(spread * moments.scale, vectors.std(0), atol=0.2)


def test_rounding_keeps_the_expectation():
    values = np.array([1 / 3, -7.123, 1e-7, 2048.4, 0.0, 0.5], np.float32)
    found = round_randomly(np.tile(values, (20000, 1)), np.random.default_rng(0))
    assert found.dtype == np.float16
    steps = np.spacing(np.abs(values).astype(np.float16)).astype(np.float64)
    assert (np.abs(found - values) < steps).all()
    np.testing.assert_allclose(found.mean(0, np.float64), values, atol=4 * 0.5 * steps.max() / 141)
    assert (np.abs(found.mean(0, np.float64) - values) <= 4 * 0.5 * steps / 141).all()
    assert (found[:, 4:] == values[4:]).all()


def test_packing_and_whitening():
    matrix = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]], np.float32)
    assert pack(matrix).tolist() == [4, 1, 3, 0, 0.5, 2]
    np.testing.assert_array_equal(unpack(pack(matrix), 3), matrix)
    state = {"centre": np.zeros(3, np.float16), "means": np.zeros((1, 3), np.float16)}
    state |= {"counts": np.ones(1, np.int32), "pooled": np.array([100, 0], np.int32)}
    moments = Moments(state | {"triangle": pack(matrix).astype(np.float16)})
    whitener = whitening(moments, {"prior_frames": 100, "shrinkage": 0.5})
    # Share 0.5 + 0.5 * 100 / 200 of the mean variance, 3.
    shrunk = 0.25 * matrix + 0.75 * 3 * np.eye(3)
    np.testing.assert_allclose(whitener @ whitener.T, np.linalg.inv(shrunk), rtol=1e-5, atol=1e-6)


def test_an_indefinite_covariance_is_repaired():
    state = {"centre": np.zeros(2, np.float16), "means": np.zeros((1, 2), np.float16)}
    state |= {"counts": np.ones(1, np.int32), "pooled": np.array([1000, 0], np.int32)}
    moments = Moments(state | {"triangle": np.array([1, 3, 1], np.float16)})
    whitener = whitening(moments, {"prior_frames": 0, "shrinkage": 0.1})
    # Variances 4 and -2 become 0.9 * 4 + 0.1 and at least 0.1.
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvalsh(whitener @ whitener.T)), [1 / 3.7, 10], rtol=1e-5
    )


def test_a_changed_folder_is_not_overwritten(folder_of):
    model, other = (load(folder, 1) for folder in [folder_of(taught("ncm"))] * 2)
    other.forget("red")
    other.save()
    written = load_file(other.folder / "state.safetensors")
    model.observe(arrays(0, 3), "red")
    with pytest.raises(InputError, match="was changed by another process"):
        model.save()
    now = load_file(other.folder / "state.safetensors")
    assert all((now[name] == value).all() for name, value in written.items())


def test_crumb_does_not_overwrite_a_changed_folder(folder_of):
    folder = folder_of(taught("ncm"))
    learner, model = load_learner(folder, "cpu"), load(folder, threads=1)
    model.forget("red")
    model.save()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TooSmall, match="state.safetensors: was changed by another process"):
        replace_model(learner, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_save_that_waited_for_crumb_does_not_overwrite_its_lesson(folder_of, monkeypatch):
    folder = folder_of(taught("ncm"))
    learner, model = load_learner(folder, "cpu"), load(folder, threads=1)
    learner.forget("red")
    monkeypatch.setattr("fcntl.flock", lambda *_: replace_model(learner, folder))
    with pytest.raises(InputError, match="was changed by another process"):
        model.save()
    assert load(folder, threads=1).classes == ["green", "blue"]


def test_crumb_replaces_the_state_more_than_once(folder_of):
    folder = folder_of(taught("ncm"))
    learner = load_learner(folder, "cpu")
    for name in ("red", "green"):
        learner.forget(name)
        replace_model(learner, folder)
    assert load(folder, threads=1).classes == ["blue"]


@pytest.mark.parametrize("package", ["crumb", "crumb_lite"])
def test_an_interruption_leaves_no_outdated_classifier(folder_of, monkeypatch, package):
    folder = folder_of(taught("ncm"))
    learner, model = load_learner(folder, "cpu"), load(folder, threads=1)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save() if package == "crumb_lite" else replace_model(learner, folder)
    assert not (folder / "predict.onnx").exists()


def test_a_failed_save_leaves_the_old_state(folder_of, monkeypatch):
    model = load(folder_of(taught("ncm")), threads=1)
    before = {path: path.read_bytes() for path in model.folder.iterdir()}
    model.forget("red")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(InputError, match="No space left"):
        model.save()
    assert {path: path.read_bytes() for path in model.folder.iterdir()} == before


def test_torch_is_not_a_part_of_the_model(folder_of):
    """The file of PyTorch need not be on the device."""
    folder = folder_of(taught("slda"))
    for name in ("torch.safetensors", "predict.onnx"):
        (folder / name).unlink()
    assert load(folder, threads=1).predict(arrays(0, 1)) == ["red"]
