"""Files, probabilities, and the names of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from networks import images_of, tiny_network
from PIL import Image

import crumb
from crumb.errors import InputError
from crumb.methods import persistence, settings
from crumb.methods.registry import find_method


def make(name="slda", **settings) -> Any:
    kind = find_method(name)
    return kind(tiny_network(), kind.Config(**settings))


@pytest.fixture
def photos(tmp_path):
    """Three files of each of two classes."""
    found = {}
    for label, name in enumerate(("red", "blue")):
        found[name] = [tmp_path / f"{name}{number}.png" for number in range(3)]
        for path, pixels in zip(found[name], images_of(label, 3, 40), strict=True):
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return found


def taught(name="slda", **settings):
    learner = make(name, **settings)
    for seed in range(4):
        learner.observe(torch.cat([images_of(0, 3, seed), images_of(1, 3, seed)]), [*"rrrbbb"])
    learner.rename("r", "red")
    learner.rename("b", "blue")
    return learner


@pytest.mark.parametrize("method", ["slda", "ncm", "finetune"])
def test_files_are_learned_as_the_images_in_them(photos, method):
    by_path, by_image = make(method), make(method)
    by_path.observe([str(path) for path in photos["red"]], "red", batch_size=1)
    by_path.observe(photos["blue"][0], "blue", batch_size=1)
    for path in photos["red"]:
        by_image.observe(Image.open(path), "red")
    by_image.observe(Image.open(photos["blue"][0]), "blue")
    one, other = by_path.state_dict(), by_image.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_one_path_gives_one_name_and_several_give_a_list(photos):
    learner = taught()
    assert learner.predict(photos["red"][0]) == "red"
    assert learner.predict(str(photos["blue"][2])) == "blue"
    assert learner.predict([*photos["red"], *photos["blue"]]) == ["red"] * 3 + ["blue"] * 3
    assert learner.predict(np.array([str(photos["red"][0])])) == ["red"]


def test_a_missing_file_is_found_before_anything_is_learned(photos, tmp_path):
    learner = make()
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        learner.observe([photos["red"][0], tmp_path / "gone.png"], "red")
    assert learner.classes == []
    with pytest.raises(InputError, match="is a folder; name the clips in it"):
        learner.observe(tmp_path, "red")
    with pytest.raises(InputError, match="labels: 2 for 3 paths"):
        learner.observe(photos["red"], ["red", "red"])


def test_probabilities_are_those_of_the_scores(photos):
    learner = taught()
    learner.temperature = 3.0
    pixels = images_of(0, 2, 900)
    with learner.evaluation():
        scores = learner.scores(learner.network.features(pixels))
    chances = learner.predict_proba(pixels)
    assert chances.shape == (2, 2)
    assert chances.dtype == np.float64
    np.testing.assert_allclose(chances, (scores.double() / 3).softmax(1).numpy(), rtol=1e-6)
    assert list(learner.classes_) == ["red", "blue"]
    (best, second), _ = learner.top(pixels, k=2)
    assert best[0] == "red"
    assert best[1] == pytest.approx(chances[0, 0])
    assert best[1] + second[1] == pytest.approx(1)
    assert learner.predict_proba(photos["red"][0]).shape == (1, 2)
    assert [len(row) for row in learner.top(pixels, k=9)] == [2, 2]


def test_unknown_is_said_only_when_it_is_asked_for():
    learner = taught(crumbs=50)
    strange = images_of(2, 5, 0)
    assert set(learner.predict(strange)) <= {"red", "blue"}
    assert learner.predict(strange, unknown_share=0.01) == ["unknown"] * 5
    for share in (0, 1, 2.0, "x"):
        with pytest.raises(InputError, match="unknown_share"):
            learner.predict(strange, unknown_share=share)
    with pytest.raises(InputError, match="needs a learner of slda, but this is one of ncm"):
        taught("ncm").predict(strange, unknown_share=0.01)


def test_calibration_makes_a_learner_that_errs_less_sure():
    learner, other = taught(), taught()
    shown = torch.cat([images_of(0, 10, 900), images_of(1, 10, 900)])
    names = ["red"] * 10 + ["blue"] * 10
    sure = learner.calibrate(shown, names)
    assert learner.temperature == sure
    swapped = names[:7] + ["blue"] * 3 + names[10:17] + ["red"] * 3
    assert other.calibrate(shown, swapped) > 2 * sure
    with pytest.raises(InputError, match="is not a class of this learner"):
        learner.calibrate(shown, "green")


def test_partial_fit_and_the_order_of_columns():
    learner = make().partial_fit(images_of(1, 3), ["blue"] * 3, classes=["red", "blue"])
    assert list(learner.classes_) == ["red", "blue"]
    learner.partial_fit(images_of(0, 3), "red")
    assert learner.predict(images_of(0, 1, 900)) == ["red"]


def test_repr_says_what_it_is():
    learner = taught(budget_bytes=2000)
    held = learner.bytes_held()
    total, backbone = held.replay + held.extra, learner.network.config.backbone
    assert repr(learner) == f"<crumb slda: 2 classes, 24 frames, {total:,} bytes beside {backbone}>"
    assert repr(make("finetune")) == f"<crumb finetune: 0 classes, 0 bytes beside {backbone}>"


def test_a_saved_learner_keeps_its_temperature(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())
    learner = taught()
    learner.temperature = 2.5
    learner.save(tmp_path / "m.crumb")
    assert persistence.load_learner(tmp_path / "m.crumb").temperature == 2.5


def test_unicode_forms_of_a_name_are_one_class():
    """macOS writes Ä as A and two dots."""
    learner = make()
    apart, together = "A\u0308pfel", "\u00c4pfel"
    learner.observe(images_of(0, 2), apart)
    learner.observe(images_of(0, 2, 1), together)
    learner.observe(images_of(1, 2), "cup")
    assert learner.classes == [together, "cup"]
    learner.rename("cup", "O\u0308l")
    learner.rename("\u00d6l", "O\u0308l")
    with pytest.raises(InputError, match="a class .* already exists"):
        learner.rename("\u00d6l", apart)
    learner.forget(apart)
    assert learner.classes == ["\u00d6l"]


NAMES = {
    "": "non-empty strings",
    "  ": "is blank",
    " cup": "begins or ends with a blank",
    "a\nb": "which cannot be seen",
    "\x1b[31mred": "which cannot be seen",
    "car\u200b": "which cannot be seen",
    "car\u200d": "which cannot be seen",
    "\u202ecar": "which cannot be seen",
    "unknown": "is reserved for inputs that match no class",
}


@pytest.mark.parametrize(("name", "problem"), NAMES.items())
def test_names_that_no_class_can_have(name, problem):
    learner = taught()
    calls = [
        lambda: learner.observe(images_of(0, 1), name),
        lambda: learner.partial_fit(images_of(0, 1), "red", classes=["red", name]),
    ]
    if name:
        calls.append(lambda: learner.rename("red", name))
    for call in calls:
        with pytest.raises(InputError, match=problem) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
        assert str(caught.value).isprintable()
    assert learner.classes == ["red", "blue"]


@pytest.mark.parametrize(
    "name", ["red cup", "Äpfel", "کتاب\u200cها", "\U0001f469\u200d\U0001f52c", "-1", "杯"]
)
def test_names_of_any_script(name):
    learner = make()
    learner.observe(images_of(0, 2), name)
    assert learner.classes == [name]


@pytest.mark.parametrize("classes", [["zebra", "red", "blue", "grey"], ["red", "zebra", "blue"]])
def test_a_class_that_was_never_seen_changes_no_calibration(classes):
    shown = torch.cat([images_of(0, 6, 900), images_of(1, 6, 900)])
    names = ["red"] * 6 + ["blue"] * 6
    found = []
    for order in (["red", "blue"], classes):
        learner = make().partial_fit(images_of(0, 6), "red", classes=order)
        learner.observe(images_of(1, 6), "blue")
        found.append((learner.calibrate(shown, names), learner.reach))
    assert found[0][0] == pytest.approx(found[1][0])
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


def test_calibration_says_how_far_known_things_may_be():
    learner = taught(crumbs=50)
    other = images_of(0, 8, 900) // 4 * 3
    assert set(learner.predict(other, unknown_share=0.01)) == {"unknown"}
    learner.calibrate(torch.cat([other, images_of(1, 8, 900)]), ["red"] * 8 + ["blue"] * 8)
    assert learner.predict(other, unknown_share=0.01) == learner.predict(other)


def test_nothing_is_met_when_a_call_fails(photos, tmp_path):
    learner = make()
    for what, names in (
        (tmp_path / "gone.png", "a"),
        (images_of(0, 2), ["a"]),
        (images_of(0, 2), ["a", 3]),
    ):
        with pytest.raises(InputError):
            learner.partial_fit(what, names, classes=["a", "b"])
        assert learner.classes == []


@pytest.mark.parametrize("call", ["predict", "predict_proba", "top"])
def test_a_learner_that_has_seen_nothing_has_no_answer(call):
    learner = make()
    learner.add_classes(["a", "b"])
    with pytest.raises(InputError, match="predict: no frame has been observed yet"):
        getattr(learner, call)(images_of(0, 1))


def test_paths_and_images_are_not_mixed(photos):
    learner = taught()
    with pytest.raises(InputError, match="images: are mixed with paths; give a list of either"):
        learner.predict([photos["red"][0], images_of(0, 1)[0]])


def test_reach_is_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())
    learner = taught()
    learner.save(tmp_path / "m.crumb")
    assert persistence.load_learner(tmp_path / "m.crumb").reach is None
    learner.calibrate(images_of(0, 5, 900), "red")
    learner.save(tmp_path / "m.crumb")
    assert persistence.load_learner(tmp_path / "m.crumb").reach == learner.reach is not None


def test_what_an_editor_completes_is_what_users_call():
    """None of what the stream loop calls, whatever the method."""
    calls = {"observe", "predict", "predict_proba", "top", "calibrate", "forget", "merge", "rename"}
    calls |= {"label_of", "save", "export", "classes_", "partial_fit"}
    for method in ("slda", "er", "icarl"):
        learner = make(method)
        assert isinstance(learner, crumb.Learner)
        assert {*dir(learner)} == calls | {"name", "classes", "temperature", "reach"}
        assert all(hasattr(learner, name) for name in dir(learner))
    public = {name for name in vars(crumb.Learner) if not name.startswith("_")}
    assert public == calls | {"reach"}
    hints = get_type_hints(crumb.load)
    assert hints["return"] is crumb.Learner
    # crumb.create: each overload says so.
    text = Path(str(settings.__file__)).read_text()
    assert text.count("-> Teachable: ...") > 20
    assert "Learner" not in text
