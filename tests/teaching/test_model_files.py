"""A lesson replaces a file: no other lesson is lost by it, and it can be taken back."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from networks import images_of, tiny_network
from PIL import Image

from crumb.cli import teach
from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.registry import find_method
from crumb.teaching.files import former, held, replace_model, undo


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())


def make(*names: str) -> Any:
    kind = find_method("slda")
    learner = kind(tiny_network(), kind.Config())
    for label, name in enumerate(names):
        learner.observe(images_of(label, 3), name)
    return learner


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that knows red, and was taught blue."""
    path = tmp_path / "own [1].crumb"
    make("red").save(path)
    lesson(path, "blue")
    return path


def lesson(model: Path, name: str) -> None:
    with held(model) as file:
        learner = persistence.load_learner(file)
        learner.observe(images_of(1, 3), name)
        replace_model(learner, file)


def classes(model: Path) -> list[str]:
    return persistence.load_learner(model).classes


def test_the_last_lesson_can_be_taken_back_and_no_other(model):
    lesson(model, "grey")
    before = former(model)
    assert [*model.parent.glob("*.before-*")] == [before]
    undo(model)
    assert classes(model) == ["red", "blue"]
    assert [*model.parent.iterdir()] == [model]
    with pytest.raises(InputError, match="has no lesson to undo"):
        undo(model)
    with pytest.raises(InputError, match="no such file"):
        undo(model.parent / "other")


@pytest.mark.parametrize("how", ["saved", "learned", "copied"])
def test_a_model_that_was_written_anew_has_no_lesson_to_take_back(model, how):
    other = make("x", "y")
    if how == "saved":
        other.save(model)
    elif how == "learned":
        model.unlink()
        other.save(model)
    else:
        other.save(model.parent / "other")
        shutil.copy(model.parent / "other", model)
    content = model.read_bytes()
    assert former(model) is None
    with pytest.raises(InputError, match="has no lesson to undo"):
        undo(model)
    assert model.read_bytes() == content
    # What is left of the model before is removed by the next lesson.
    lesson(model, "z")
    assert [*model.parent.glob("*.before-*")] == [former(model)]


def test_a_lesson_waits_until_another_one_is_over(model, tmp_path):
    red = tmp_path / "red.png"
    Image.fromarray(images_of(0, 1)[0].permute(1, 2, 0).numpy()).save(red)
    other = threading.Thread(target=teach.run, args=([str(model), "second", str(red)],))
    with held(model) as file:
        learner = persistence.load_learner(file)
        other.start()
        other.join(0.5)
        assert other.is_alive()
        learner.observe(images_of(2, 3), "first")
        replace_model(learner, file)
    other.join(60)
    assert classes(model) == ["red", "blue", "first", "second"]
    undo(model)
    assert classes(model) == ["red", "blue", "first"]


def killed(model: Path, monkeypatch: pytest.MonkeyPatch, copy: Path) -> None:
    """A lesson that is stopped before the model is replaced, and the folder at that moment."""
    original = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if Path(target) == model:
            shutil.copytree(model.parent, copy)
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            lesson(model, "grey")


def test_a_kill_between_the_two_files_leaves_a_model_and_its_last_lesson(model, monkeypatch):
    before = {path: path.read_bytes() for path in model.parent.iterdir()}
    copy = model.parent.parent / "copy"
    killed(model, monkeypatch, copy)
    # Ctrl-C leaves all as it was,
    assert {path: path.read_bytes() for path in model.parent.iterdir()} == before
    # and so does a kill, after which nothing is tidied up.
    left = copy / model.name
    assert classes(left) == ["red", "blue"]
    undo(left)
    assert classes(left) == ["red"]


def test_a_lesson_that_cannot_be_written_leaves_both_files(model, monkeypatch):
    before = {path: path.read_bytes() for path in model.parent.iterdir()}
    learner = persistence.load_learner(model)

    def full(path: object) -> None:
        raise InputError(path, "cannot be written (No space left on device)", "free space")

    monkeypatch.setattr(learner, "save", full)
    with pytest.raises(InputError, match="No space"):
        replace_model(learner, model)
    assert {path: path.read_bytes() for path in model.parent.iterdir()} == before


def test_what_a_link_leads_to_is_taught_and_the_link_stays(model, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    real = Path(shutil.move(model, store / "real.crumb"))
    for path in tmp_path.glob("*.before-*"):
        path.unlink()
    link = tmp_path / "link.crumb"
    link.symlink_to(Path("store") / "real.crumb")
    lesson(link, "grey")
    assert link.is_symlink()
    assert classes(real) == ["red", "blue", "grey"]
    undo(link)
    assert link.is_symlink()
    assert classes(real) == ["red", "blue"]
    make("x").save(link)
    assert link.is_symlink()
    assert classes(real) == ["x"]


def test_files_of_the_user_beside_a_model_stay(model):
    others = [model.with_name(f"{model.name}.before-{end}") for end in ("monday", "0" * 15, "")]
    others.append(model.with_name("own 1.crumb.before-0123456789abcdef"))
    for path in others:
        path.touch()
    lesson(model, "grey")
    assert all(path.exists() for path in others)
