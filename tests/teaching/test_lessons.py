"""Learning clips, and what a lesson does to the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import images_of, learn_task, tiny_network
from PIL import Image

from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.answers import UNKNOWN, together, verdict
from crumb.methods.registry import find_method
from crumb.teaching.asking import answer_rows, files_below
from crumb.teaching.files import replace_model, undo
from crumb.teaching.lesson import (
    Change,
    changes,
    learn_clips,
    load_to_teach,
    refuse_boundaries,
    self_test,
)
from crumb.teaching.material import Clip, hold_back


def make(name="slda", **settings) -> Any:
    kind = find_method(name)
    return kind(tiny_network(), kind.Config(**settings))


def clip(folder: Path, name: str, label: int, frames: int, seed: int) -> Clip:
    folder.mkdir(exist_ok=True)
    files = []
    for number, pixels in enumerate(images_of(label, frames, seed)):
        files.append(folder / f"{name}-{seed}-{number}.png")
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(files[-1])
    return Clip(name, tuple(files))


@pytest.fixture
def clips(tmp_path):
    return [
        clip(tmp_path / "c", name, label, 8, seed)
        for label, name in enumerate(("red", "blue", "grey"))
        for seed in (100, 200)
    ]


@pytest.mark.parametrize("method", ["slda", "ncm"])
def test_every_frame_is_learned_and_what_was_held_back_is_asked_first(clips, method):
    learner = make(method)
    readings = []
    reports = learn_clips(learner, hold_back(clips), lambda: readings.append(1))
    assert {name: (r.clips, r.frames, r.asked) for name, r in reports.items()} == dict.fromkeys(
        ("red", "blue", "grey"), (2, 16, 8)
    )
    assert all(report.whole_clips for report in reports.values())
    assert learner.moments.counts.tolist() == [16, 16, 16]
    assert all(report.accuracy == 100 for report in reports.values())
    # Each clip once, and what is held back twice more.
    assert len(readings) == 6 + 2 * 3
    whole = make(method)
    learn_clips(whole, clips)
    torch.testing.assert_close(
        learner.moments.mean_vectors(), whole.moments.mean_vectors(), rtol=0.01, atol=0.01
    )


def test_wrong_answers_are_counted_by_what_they_were(clips, tmp_path):
    # The blue clip that is held back shows red things.
    clips[3] = Clip("blue", clip(tmp_path / "w", "wrong", 0, 8, 300).files)
    reports = learn_clips(make(), hold_back(clips))
    assert reports["blue"].right == 0
    assert reports["blue"].confused == {"red": 8}
    assert reports["blue"].accuracy == 0


def test_temperature_and_reach_are_measured_on_whole_clips_only(clips):
    one_each, several = make(), make()
    learn_clips(one_each, hold_back(clips[::2]))
    assert one_each.temperature == 8.0
    assert one_each.reach is None
    learn_clips(several, hold_back(clips))
    assert several.temperature != 8.0
    assert several.reach is not None


def test_a_lesson_that_does_harm_names_who_lost(clips):
    learner = make()
    learn_clips(learner, clips)
    before = self_test(learner)
    assert before == {"red": 100.0, "blue": 100.0, "grey": 100.0}
    learner.moments.means[0] += 50
    learner.add_classes([])
    found = changes(before, learner)
    assert [change.name for change in found if change.worth_naming] == ["red"]
    assert not Change("a", 100.0, 98.0).worth_naming
    assert Change("a", 100.0, 97.9).worth_naming
    assert not Change("a", None, 5.0).worth_naming


def test_a_forgotten_class_is_gone_and_the_others_stay(clips):
    learner = make()
    learn_clips(learner, clips)
    before = self_test(learner)
    learner.forget("blue")
    assert learner.classes == ["red", "grey"]
    assert [change.name for change in changes(before, learner)] == ["red", "grey"]
    assert learner.predict(images_of(2, 3, 900)) == ["grey"] * 3
    with pytest.raises(
        InputError, match="'blue': is not a class of this learner; choose one of red"
    ):
        learner.forget("blue")
    learner.observe(images_of(1, 4), "blue")
    assert learner.predict(images_of(1, 3, 900)) == ["blue"] * 3


def test_merged_and_renamed_classes(clips):
    learner = make()
    learn_clips(learner, clips)
    learner.merge("red", "grey")
    assert learner.classes == ["red", "blue"]
    assert learner.moments.counts.tolist() == [32, 16]
    learner.rename("red", "colour")
    assert learner.predict(images_of(1, 1, 900)) == ["blue"]
    assert learner.classes == ["colour", "blue"]
    with pytest.raises(InputError, match="merge the two"):
        learner.rename("colour", "blue")
    with pytest.raises(InputError, match="is the same class twice"):
        learner.merge("blue", "blue")


def test_methods_that_cannot_forget_say_what_can():
    learner = make("er", memory_size=4)
    learner.add_classes(["a"])
    with pytest.raises(InputError, match="a learner of er: cannot forget a class; use one of slda"):
        learner.forget("a")
    learner.rename("a", "b")
    assert learner.classes == ["b"]


def test_a_clip_is_judged_by_the_mean_of_its_frames():
    learner = make()
    learner.add_classes(["a", "b"])
    learner.temperature = 2.0
    scores = torch.tensor([[0.0, -4.0], [-3.0, 0.0], [0.0, -1.0]])
    assert together(scores).tolist() == pytest.approx([-1, -5 / 3])
    (found,) = answer_rows(learner, scores, None, each_frame=False)
    chance = 1 / (1 + torch.tensor(-1 / 3).exp().item())
    assert (found.name, found.runner_up) == ("a", "b")
    assert found.probability == pytest.approx(chance)
    assert found.runner_up_probability == pytest.approx(1 - chance)
    frames = answer_rows(learner, scores, None, each_frame=True)
    assert [one.name for one in frames] == ["a", "b", "a"]


def test_what_is_farther_than_the_limit_is_unknown():
    learner = make()
    learner.add_classes(["a", "b"])
    scores = torch.tensor([-3.0, -9.0])
    assert verdict(learner, scores, torch.tensor([6.1, 0.0])).name == "a"
    found = verdict(learner, scores, torch.tensor([5.9, 99.0]))
    # The class that it is nearest to is not lost, and "unknown" has no probability of its own.
    assert (found.name, found.probability, found.runner_up) == (UNKNOWN, None, "a")
    assert found.runner_up_probability == learner_chance(learner, scores)


def learner_chance(learner: Any, scores: torch.Tensor) -> float:
    return float((scores.double() / learner.temperature).softmax(0).max())


def test_folders_are_read_as_learn_reads_them(tmp_path, capsys):
    """Through links, without hidden folders; what is left out is named."""
    for name in ("in/a.png", "in/.cache/old.png", "in/@eaDir/t.png", "in/x.lrv", "other/l.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "in/empty.png").touch()
    (tmp_path / "in/link").symlink_to(tmp_path / "other")
    below = tmp_path / "in"
    assert list(files_below([below])) == [below / "a.png", below / "link/l.png"]
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"{below}: left out: 1 (a folder of the system, never data), the first @eaDir/",
        f"{below}: left out: 1 (an empty file), the first empty.png",
        f"{below}: left out: 1 (no video or image that Crumb reads (.lrv)), the first x.lrv",
    ]


def test_a_model_of_the_longest_name_can_be_taught(tmp_path):
    learner, model = make("finetune"), tmp_path / ("m" * 249 + ".crumb")
    learner.save(model)
    first = model.read_bytes()
    learner.add_classes(["a"])
    replace_model(learner, model)
    assert model.read_bytes() != first
    undo(model)
    assert model.read_bytes() == first


def test_methods_that_need_boundaries_are_refused():
    with pytest.raises(InputError, match="m: is of method lwf, which needs task boundaries"):
        refuse_boundaries(make("lwf"), "m")
    refuse_boundaries(make("finetune"), "m")
    # Here it is the policy that asks for them, not the method.
    with pytest.raises(InputError) as caught:
        refuse_boundaries(make("er", write_policy="end-of-task"), "m")
    assert caught.value.in_flags().startswith("--write-policy end-of-task: needs task ends")
    assert caught.value.in_flags().endswith("give --write-policy on-arrival")


def test_a_streamed_model_that_stored_at_the_end_of_tasks_can_be_taught(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())
    learner = make("er", memory_size=6, write_policy="end-of-task")
    learner.begin_task(["red", "blue"])
    learn_task(learner, 0, 1)
    learner.save(tmp_path / "streamed")
    loaded: Any = load_to_teach(tmp_path / "streamed", "cpu")
    loaded.observe(images_of(2, 4), "grey")
    assert loaded.classes == ["red", "blue", "grey"]
    # What it had stored is still there, and what it was taught has joined it.
    assert len(loaded.exemplars) == 6
    make("lwf").save(tmp_path / "lwf")
    with pytest.raises(InputError, match="is of method lwf"):
        load_to_teach(tmp_path / "lwf", "cpu")


def test_files_are_found_in_folders_and_system_folders_are_not(tmp_path):
    for name in ("b/2.png", "b/10.png", "a.mp4", "b/@eaDir/2.png", "b/note.txt", "b/.x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = list(files_below([tmp_path, tmp_path / "missing.mp4"]))
    names = ["a.mp4", "b/2.png", "b/10.png", "missing.mp4"]
    assert found == [tmp_path / name for name in names]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no videos and no images"):
        list(files_below([tmp_path / "empty"]))
