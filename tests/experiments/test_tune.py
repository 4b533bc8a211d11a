"""Tuning: what is tried, on which images, and what is written."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crumb.cli import stream as stream_command
from crumb.cli import tune as tune_command
from crumb.data.index import Dataset, load_dataset
from crumb.data.protocol import PROTOCOLS, TaskLayout, TaskList, lay_out
from crumb.errors import InputError
from crumb.experiments.draws import HELD_ASIDE, draw, ranges_of
from crumb.experiments.tune import Search, TuneConfig, held_aside, plan, tune
from crumb.experiments.tuned import Trial, best, read_failed, read_tuned, write_log, write_tuned
from crumb.features.features import FeatureStore
from crumb.files import read_toml
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.methods.described import Ranges
from crumb.methods.ewc import EWC
from crumb.methods.finetune import Finetune
from crumb.methods.ncm import NearestClassMean
from crumb.methods.registry import find_method
from crumb.methods.slda import SldaConfig, StreamingLda
from crumb.methods.stable_sgd import StableSgd, StableSgdConfig
from crumb.nets.config import NetworkConfig
from crumb.stream.metrics import mean_and_deviation
from crumb.stream.results import Results

TASKS = ["--classes-per-task", "1", "--tasks", "3"]
Planned = Callable[..., Search]


@pytest.fixture
def planned(words: list[str], tmp_path: Path) -> Planned:
    """Plans short trials of a method; ``dataset`` takes the place of the usual one."""

    def make(method: str, *more: str, dataset: Path | None = None) -> Search:
        folder, *rest = words
        flags = ["--dataset", str(dataset or folder), *rest, *TASKS, "--trials", "3"]
        flags += ["--epochs-first-task", "2", "--output", str(tmp_path / "tuned"), *more]
        return plan(*tune_command.settings([method, *flags]))

    return make


def config(dataset: Dataset, **changes: object) -> TuneConfig:
    layout = TaskLayout(classes_per_task=1)
    return replace(TuneConfig(dataset.folder, method="finetune", layout=layout), **changes)


def learned(tasks: TaskList) -> list[str]:
    return [path for frames in tasks.tasks for path in frames.paths]


# What is tried on.


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_held_out_are_training_images_that_are_not_learned(
    dataset: Dataset, protocol: str, offline: bool
):
    layout = TaskLayout(1, clips_per_task=9)
    tasks = held_aside(config(dataset, protocol=protocol, layout=layout), dataset, offline)
    whole = lay_out(dataset, protocol, HELD_ASIDE, offline, layout)
    first = {path for frames in whole.tasks[:3] for path in frames.paths}
    assert set(learned(tasks)) | set(tasks.test.paths) == first
    assert not set(learned(tasks)) & set(tasks.test.paths)
    assert not set(tasks.test.paths) & set(whole.test.paths)
    assert (tasks.run, len(tasks.tasks)) == (HELD_ASIDE, 3)
    # Without what is held out, the tasks are those that were laid out.
    for frames, laid_out in zip(tasks.tasks, whole.tasks, strict=False):
        assert list(frames.paths) == [p for p in laid_out.paths if p in set(learned(tasks))]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_labels_are_those_of_the_classes_in_order(dataset: Dataset, protocol: str):
    layout = TaskLayout(2, clips_per_task=9)
    tasks = held_aside(config(dataset, protocol=protocol, layout=layout, tasks=2), dataset)
    labels = np.concatenate([frames.labels for frames in tasks.tasks])
    met = list(dict.fromkeys(labels.tolist()))
    assert met == [*range(len(tasks.classes))]
    assert set(tasks.test.labels.tolist()) == set(met)
    name_of = dict(zip(dataset.index["im_path"], dataset.index["class"], strict=True))
    for frames in (*tasks.tasks, tasks.test):
        names = [dataset.class_names[name_of[path]] for path in frames.paths]
        assert names == [tasks.classes[label] for label in frames.labels.tolist()]


def clips_of(dataset: Dataset, paths: list[str]) -> set[tuple[int, int, int]]:
    index = dataset.index
    columns = (index[name].tolist() for name in ("class", "object", "session", "im_path"))
    return {(*clip,) for *clip, path in zip(*columns, strict=True) if path in set(paths)}


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.2, 1), (0.4, 3), (0.99, 6)])
def test_whole_clips_of_each_class_are_held_out(dataset: Dataset, share: float, count: int):
    """Of seven clips each."""
    tasks = held_aside(config(dataset, validation_share=share), dataset)
    held = clips_of(dataset, list(tasks.test.paths))
    assert not held & clips_of(dataset, learned(tasks))
    assert sorted(number for number, _, _ in held) == sorted(
        number
        for number, name in dataset.class_names.items()
        if name in tasks.classes
        for _ in range(count)
    )


def one_clip(dataset: Dataset, images: int) -> Dataset:
    """One clip to train on of each class, with so many images."""
    index = dataset.index
    tested = index["session"].isin(dataset.test_sessions)
    first = ~tested & (index["session"] == index["session"][~tested].min())
    kept = tested | (first & (index.groupby(["class", "session"]).cumcount() < images))
    return replace(dataset, index=index[kept].reset_index(drop=True))


def test_of_a_class_with_one_clip_images_are_held_out(dataset: Dataset):
    tasks = held_aside(config(dataset), one_clip(dataset, 3))
    assert [len(frames.paths) for frames in tasks.tasks] == [2, 2, 2]
    assert sorted(tasks.test.labels.tolist()) == [0, 1, 2]


def test_the_same_are_held_out_of_a_stream_and_its_upper_bound(dataset: Dataset):
    for data in (dataset, one_clip(dataset, 3)):
        wanted = config(data, protocol="class_iid", validation_share=0.5)
        stream, offline = (held_aside(wanted, data, upper) for upper in (False, True))
        assert offline.test.paths == stream.test.paths
        assert len(learned(offline)) > len(set(learned(offline))) == len(learned(stream))


def test_a_single_image_cannot_be_held_out(dataset: Dataset):
    with pytest.raises(InputError, match="has one image of class '.*' in the tasks"):
        held_aside(config(dataset), one_clip(dataset, 1))


def test_more_tasks_than_there_are(dataset: Dataset):
    with pytest.raises(InputError, match=r"^tasks=5: is more than the 4 .* give at most 4"):
        held_aside(config(dataset, tasks=5), dataset)


def test_a_task_without_anything_to_learn(dataset: Dataset):
    """A task of one clip, which is held out."""
    layout = TaskLayout(clips_per_task=1)
    wanted = config(dataset, protocol="instance", layout=layout, tasks=20, validation_share=0.9)
    with pytest.raises(
        InputError, match=r"^validation_share=0.9: leaves nothing to learn from in task \d+"
    ):
        held_aside(wanted, dataset)


# What is tried.


def test_trials_of_methods_lie_at_the_same_places():
    ranges = {"lr": (1.0, 100.0), "regularisation": (0.1, 1000.0)}
    both, alone = draw(ranges, 20, EWC), draw({"lr": (1e-5, 1e-3)}, 20, Finetune)
    assert both == draw(ranges, 30, EWC)[:20]
    for first, second in zip(both, alone, strict=True):
        assert second["lr"] / 1e-5 == pytest.approx(first["lr"], rel=0.02)


def test_a_coefficient_that_is_not_searched_leaves_the_others_where_they_are():
    class Two(Finetune):
        tuned: ClassVar[Ranges] = {"first": (1.0, 100.0), "second": (1.0, 100.0)}

    drawn = draw({"lr": (1.0, 100.0), **Two.tuned}, 20, Two)
    assert len({tuple(values.values()) for values in drawn}) == 20
    columns = {name: [values[name] for values in drawn] for name in drawn[0]}
    assert len({tuple(column) for column in columns.values()}) == 3
    for names in (["lr"], ["lr", "first"], ["lr", "second"]):
        some = draw(dict.fromkeys(names, (1.0, 100.0)), 20, Two)
        assert some == [{name: values[name] for name in names} for values in drawn]


@given(st.floats(1e-6, 1e3), st.floats(1.0, 1e6))
def test_drawn_values_stay_in_their_range(low: float, factor: float):
    high = low * factor
    for values in draw({"lr": (low, high)}, 10, Finetune):
        assert low * 0.99 <= values["lr"] <= high * 1.01


def test_draws_are_even_on_a_logarithmic_scale():
    drawn = [values["lr"] for values in draw({"lr": (1e-4, 1.0)}, 2000, Finetune)]
    decades = np.bincount([math.floor(math.log10(value)) + 4 for value in drawn], minlength=4)
    # Drawn at random, the standard deviation would be 19.
    assert (abs(decades[:4] - 500) <= 2).all()


def test_the_first_draws_of_a_sobol_sequence():
    """Of the first dimension, after the corner and the centre: 3/4, 1/4, 3/8 and 7/8."""
    drawn = draw({"lr": (1.0, 1e8)}, 4, Finetune)
    assert [values["lr"] for values in drawn] == [1e6, 100.0, 1000.0, 1e7]


class Mixed(Finetune):
    tuned: ClassVar[Ranges] = {"count": (1, 9), "how": ("a", "b", "c")}


def test_whole_numbers_and_choices():
    drawn = draw({"lr": (0.1, 10.0), **Mixed.tuned}, 3000, Mixed)
    counts = [values["count"] for values in drawn]
    assert {type(count) for count in counts} == {int}
    # On a logarithmic scale 1 stands for 0.5 to 1.5, so for ln 3 of ln 19.
    shares = np.bincount(counts, minlength=10) / 3000
    assert shares[1] == pytest.approx(math.log(3) / math.log(19), abs=0.01)
    assert shares[9] == pytest.approx(math.log(9.5 / 8.5) / math.log(19), abs=0.01)
    ways = [values["how"] for values in drawn]
    assert [ways.count(way) for way in "abc"] == pytest.approx([1000] * 3, abs=10)


def test_ranges():
    assert ranges_of(Crumb, CrumbConfig(lr=0.02)) == {
        "lr": (pytest.approx(0.002), pytest.approx(0.2)),
        "replay_coefficient": Crumb.tuned["replay_coefficient"],
    }
    # There is no replay to be weighed.
    without = CrumbConfig(storage="none", replay_times=0)
    assert list(ranges_of(Crumb, without)) == ["lr"]


def test_methods_that_train_nothing_have_no_rate_to_search(dataset: Dataset, tmp_path: Path):
    """The coefficient of ``slda`` lies where the first coefficient of every method lies."""
    ranges = ranges_of(StreamingLda, SldaConfig())
    assert ranges == StreamingLda.tuned
    drawn, others = draw(ranges, 9, StreamingLda), draw({"regularisation": (0.001, 1.0)}, 9, EWC)
    assert [v["shrinkage"] for v in drawn] == [v["regularisation"] for v in others]
    wanted = config(dataset, method="ncm", output=tmp_path / "tuned")
    with pytest.raises(InputError) as refused:
        plan(wanted, NetworkConfig(), NearestClassMean.Config())
    assert refused.value.parts == (
        "crumb tune ncm",
        "has neither a learning rate nor a coefficient to search",
        "choose another method",
    )
    assert not (tmp_path / "tuned").exists()


def test_streaming_lda_is_tuned(
    dataset: Dataset, network_words: list[str], stores: dict[str, FeatureStore], tmp_path: Path
):
    flags = ["--dataset", str(dataset.folder), *network_words, "--batch-size", "12", *TASKS]
    words = ["slda", *flags, "--trials", "2", "--output", str(tmp_path / "tuned")]
    search = plan(*tune_command.settings(words))
    first, second = tune(search, stores)
    assert first.values == {"shrinkage": 0.05, "transform": "sqrt"}
    assert first.accuracy is not None
    assert second.values != first.values
    chosen = best([first, second])
    assert read_tuned(search.folder, "slda").values == chosen.values


def test_a_rate_that_other_settings_refuse(planned: Planned):
    """Before anything is tried; a floor at the rate that is given leaves those above it."""
    with pytest.raises(InputError, match="lr_floor"):
        planned("stable_sgd", "--lr-floor", "0.021")
    assert planned("stable_sgd", "--lr-floor", "0.02").ranges["lr"] == (0.02, 0.2)
    assert ranges_of(StableSgd, StableSgdConfig())["gamma"][1] == 1


@pytest.mark.parametrize("floor", [0.005, 0.0012345, 0.001])
def test_no_rate_below_the_floor_is_drawn(floor: float):
    """Nor one that rounding to three digits leads below it: every one is taken by the settings."""
    method = StableSgdConfig(lr=0.005, lr_floor=floor)
    ranges = ranges_of(StableSgd, method)
    assert ranges["lr"] == (floor, 0.05)
    drawn = draw(ranges, 500, StableSgd)
    assert min(values["lr"] for values in drawn) >= floor
    assert all(replace(method, **values).lr == values["lr"] for values in drawn)


def test_no_rate_above_what_can_be_computed_with_is_drawn():
    assert ranges_of(Finetune, Finetune.Config(lr=5e37))["lr"] == (5e36, 1e38)


# What comes of it.


def rows(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


def test_what_is_written(planned: Planned, stores: dict[str, FeatureStore]):
    search = planned("ewc", "--regularisation", "7")
    trials = list(tune(search, stores))
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert trials[0].values == {"lr": 0.02, "regularisation": 7}
    assert len({tuple(trial.values.values()) for trial in trials}) == 3
    header, *table = rows(search.folder / "trials.csv")
    assert header == ["trial", "lr", "regularisation", "accuracy", "seconds", "failed"]
    assert [list(map(float, row[:5])) for row in table] == [
        [t.number, *t.values.values(), t.accuracy, t.seconds] for t in trials
    ]
    chosen = best(trials)
    assert chosen.accuracy == max(trial.accuracy or 0 for trial in trials)
    tuned = read_toml(search.folder / "tuned.toml", "")
    assert tuned["method"] == chosen.values
    assert tuned["about"]["trial"] == chosen.number
    assert read_tuned(search.folder, "ewc") == read_tuned(search.tuned, "ewc")
    assert read_tuned(search.tuned, "ewc").values == chosen.values
    # It can be given as it is.
    _, _, method = stream_command.settings(
        ["set", "--preset", str(search.tuned), "--backbone", search.network.backbone]
    )
    assert {name: getattr(method, name) for name in chosen.values} == chosen.values


def test_what_is_said_of_how_it_was_tuned(planned: Planned, stores: dict[str, FeatureStore]):
    search = planned("finetune", "--trials", "1")
    list(tune(search, stores))
    found = dict(read_tuned(search.folder, "finetune", "test_efficientnet", "paper").about)
    assert Path(found.pop("weights")).name == "tiny.safetensors"
    assert 0 <= found.pop("accuracy") <= 100
    assert found == {
        "trial": 0,
        "dataset": "toybox",
        "protocol": "class_instance",
        "mode": "paper",
        "classes_per_task": 1,
        "backbone": "test_efficientnet",
        "cut": "blocks.4",
        "trainable": "tail",
        "tasks": 3,
        "epochs": [2, 1, 1],
        "batch_size": 12,
        "validation_share": 0.2,
        "trials": 1,
        "searched": {"lr": [0.002, 0.2]},
    }


def test_the_score_is_the_mean_over_tasks(planned: Planned, stores: dict[str, FeatureStore]):
    search = planned("finetune", "--trials", "1")
    (trial,) = tune(search, stores)
    folder = search.folder / "trials" / "00"
    curve = rows(folder / "top1_test_all_direct_all_runs.csv")[0]
    assert len(curve) == 3
    assert trial.accuracy == mean_and_deviation([*map(float, curve)])[0]
    # A trial is a stream of these tasks with these settings.
    images = read_toml(folder / "config.toml", "")["tune"]
    assert images == {"tasks": 3, "validation_share": 0.2}


@pytest.mark.parametrize("method", ["er", "icarl", "offline"])
def test_methods_that_store_images_or_read_all(
    planned: Planned, stores: dict[str, FeatureStore], method: str
):
    (trial,) = tune(planned(method, "--trials", "1"), stores)
    assert list(trial.values) == ["lr", *find_method(method).tuned]
    assert 0 <= (trial.accuracy or -1) <= 100


def test_images_to_be_tested_on_are_not_opened(
    planned: Planned, stores: dict[str, FeatureStore], dataset_copy: Path
):
    one = ("er", "--trials", "1")
    usual = [trial.accuracy for trial in tune(planned(*one), stores)]
    shutil.rmtree(planned(*one).folder)
    copy = load_dataset(dataset_copy)
    tested = copy.index[copy.index["session"].isin(copy.test_sessions)]["im_path"]
    assert len(tested)
    for path in tested:
        (copy.images / path).unlink()
    found = [trial.accuracy for trial in tune(planned(*one, dataset=dataset_copy), {})]
    assert found == usual


def test_trials_are_not_done_twice(
    planned: Planned, stores: dict[str, FeatureStore], monkeypatch: pytest.MonkeyPatch
):
    first = list(islice(tune(planned("finetune"), stores), 2))
    log = planned("finetune").log
    assert [row[0] for row in rows(log)] == ["trial", "0", "1"]
    assert not planned("finetune").tuned.exists()
    add = Results.add
    done: list[str] = []
    monkeypatch.setattr(
        Results, "add", lambda *args: (done.append(args[0].folder.name), add(*args))
    )
    trials = list(tune(planned("finetune"), stores))
    assert trials[:2] == first
    assert done == ["02"]
    # More trials may be asked for.
    assert list(tune(planned("finetune", "--trials", "4"), stores))[:3] == trials
    assert done == ["02", "03"]


def numbers(log: Path) -> list[str]:
    return [row[0] for row in rows(log)[1:]]


def test_the_log_keeps_what_is_finished(planned: Planned, stores: dict[str, FeatureStore]):
    """Whenever a second call is interrupted, or the first was before it wrote the log."""
    trials = list(tune(planned("finetune"), stores))
    more = planned("finetune", "--trials", "4")
    assert next(tune(more, stores)) == trials[0]
    assert numbers(more.log) == ["0", "1", "2"]
    more.log.unlink()
    next(tune(more, stores))
    assert numbers(more.log) == ["0", "1", "2"]


def test_the_log_keeps_what_failed(planned: Planned, stores: dict[str, FeatureStore]):
    search = planned("finetune", "--lr", "1e20", "--clip", "1e30")
    search = replace(search, settings=(replace(search.method, lr=0.01), *search.settings[1:]))
    found = list(tune(search, stores))
    assert [bool(trial.failed) for trial in found] == [False, True, True]
    log = search.log.read_text()
    assert next(tune(search, stores)) == found[0]
    assert search.log.read_text() == log
    one = replace(search, config=replace(search.config, trials=1))
    with pytest.raises(InputError, match=r"^trials=1: is fewer than the 3 that are in "):
        next(tune(one, stores))
    # Those of other settings are not kept.
    search.log.write_text(log.replace("1e+20", "2e+20"))
    other = replace(search.method, lr=0.02)
    next(tune(replace(search, settings=(search.settings[0], other, other)), stores))
    assert numbers(search.log) == ["0"]


def test_a_log_that_is_none(planned: Planned, stores: dict[str, FeatureStore]):
    search = planned("finetune", "--trials", "1")
    list(tune(search, stores))
    for text in ("trial,lr,accuracy\n1,2,3\n", "trial,lr\n", "trial\n\0,a,b"):
        search.log.write_text(text + "more,1,2,3,4,5\n")
        with pytest.raises(InputError, match=r"trials.csv: is not a table of trials; remove it"):
            next(tune(search, stores))
    search.log.unlink()
    assert len(list(tune(search, stores))) == 1


def test_fewer_trials_than_are_there(planned: Planned, stores: dict[str, FeatureStore]):
    search = planned("finetune")
    list(tune(search, stores))
    files = {path: path.read_bytes() for path in (search.log, search.tuned)}
    few = planned("finetune", "--trials", "2")
    with pytest.raises(InputError) as refused:
        list(tune(few, stores))
    assert refused.value.in_flags() == (
        f"--trials 2: is fewer than the 3 that are in {search.folder}; "
        "give at least 3, or another --output"
    )
    assert {path: path.read_bytes() for path in files} == files


def test_trials_of_other_settings_are_not_mixed(planned: Planned, stores: dict[str, FeatureStore]):
    search = planned("finetune", "--trials", "1")
    list(tune(search, stores))
    for flags, named in (
        (["--validation-share", "0.4"], "tune.validation_share = 0.2, not 0.4"),
        (["--tasks", "2"], "tune.tasks = 3, not 2"),
        (["--lr", "0.01"], "method.lr = 0.02, not 0.01"),
    ):
        with pytest.raises(InputError) as refused:
            list(tune(planned("finetune", *flags), stores))
        assert refused.value.parts[:2] == (str(search.folder), f"was made with {named}")


def test_a_trial_that_diverges(planned: Planned, stores: dict[str, FeatureStore]):
    """The largest rates overflow; the log says where, and another one is chosen."""
    search = planned("finetune", "--lr", "1e20", "--clip", "1e30", "--trials", "2")
    small = replace(search.method, lr=0.01)
    search = replace(search, settings=(search.method, small))
    lost, kept = tune(search, stores)
    assert (lost.accuracy, lost.seconds) == (None, None)
    assert "finite" in lost.failed
    assert best([lost, kept]) == kept
    assert rows(search.log)[1] == ["0", "1e+20", "", "", lost.failed]
    assert read_tuned(search.folder, "finetune").values == {"lr": 0.01}


def test_when_every_trial_diverges(planned: Planned, stores: dict[str, FeatureStore]):
    search = planned("finetune", "--lr", "1e20", "--clip", "1e30", "--trials", "1")
    with pytest.raises(InputError, match="every trial diverged; give a smaller one"):
        list(tune(search, stores))
    assert len(rows(search.log)) == 2
    assert not search.tuned.exists()
    # The same folder may be used again.
    (found,) = tune(planned("finetune", "--trials", "1"), stores)
    assert found.accuracy is not None


def test_the_first_of_equals_is_best():
    trials = [Trial(0, {}), Trial(1, {}, 50.0), Trial(2, {}, 60.0), Trial(3, {}, 60.0)]
    assert best(trials).number == 2


def test_files_of_others_are_left_alone(planned: Planned):
    search = planned("finetune")
    search.folder.mkdir()
    search.log.write_text("mine")
    with pytest.raises(InputError, match=r"trials.csv: does not belong to a search in this folder"):
        planned("finetune")
    assert search.log.read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("crumb-tuned", "crumb-tasted"), "is not of the format 'crumb-tuned'"),
        (("version = 1", "version = 2"), "has version 2, but this version of Crumb reads 1"),
        (('method = "ewc"', 'method = "mas"'), "is for the method 'mas'"),
        (("lr = 0.1", 'lr = "much"'), "method.lr: is 'much'"),
        (("lr = 0.1", "lr = true"), "method.lr: is True"),
        (("lr = 0.1", "lr = nan"), "method: --lr nan: is out of range"),
        (("lr = 0.1", "lr = inf"), "method: --lr inf: is out of range"),
        (("lr = 0.1", "lr = -1.0"), "method: --lr -1.0: is out of range"),
        (("lr = 0.1", f"lr = 1{400 * '0'}"), "method.lr: is 1"),
        (("= 3", "= -3"), "method: --regularisation -3.0: is out of range"),
        (("lr = 0.1", "gamme = 0.1"), "has an unknown key 'gamme'"),
        # A setting of the method, but none that is searched.
        (("lr = 0.1", "lr = 0.1\ngamma = 0.5"), "has an unknown key 'gamma'"),
        (('"test"', '"other"'), "was tuned with --backbone other, not test"),
        (
            ("backbone", "bone"),
            "was tuned without --backbone; give a file tuned with --backbone test",
        ),
        (('"paper"', '"strict"'), "was tuned with --mode strict, not paper"),
        (("= 5000", "= 6000"), "was tuned with --budget-bytes 6000, not 5000"),
        (("budget_bytes = 5000\n", ""), "was tuned without --budget-bytes; give a file tuned with"),
        (("lr = 0.1", ""), "has no lr"),
        (("[method]", "[other]"), "has no lr"),
        (("[about]", "[about"), "is not valid TOML"),
    ],
    ids=str,
)
def test_files_that_are_not_understood(tmp_path: Path, change: tuple[str, str], problem: str):
    file = tmp_path / "tuned.toml"
    text = '[about]\nformat = "crumb-tuned"\nversion = 1\nbackbone = "test"\nmode = "paper"\n'
    text += 'dataset = "toys"\nbudget_bytes = 5000\n[stream]\nmethod = "ewc"\n'
    text += "[method]\nlr = 0.1\nregularisation = 3\n"
    file.write_text(text)
    found = read_tuned(tmp_path, "ewc", "test", "paper", 5000)
    assert found.values == {"lr": 0.1, "regularisation": 3.0}
    about = {"backbone": "test", "mode": "paper", "dataset": "toys", "budget_bytes": 5000}
    assert found.about == about
    assert read_tuned(tmp_path, "ewc") == found
    file.write_text(text.replace(*change))
    with pytest.raises(InputError, match="give") as refused:
        read_tuned(tmp_path, "ewc", "test", "paper", 5000)
    assert problem in refused.value.in_flags()
    assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    ("method", "setting"), [("er", "memory_size = 5"), ("crumb", "replay_times = 2")]
)
def test_settings_that_are_not_searched(tmp_path: Path, method: str, setting: str):
    text = f'[about]\nformat = "crumb-tuned"\nversion = 1\n[stream]\nmethod = "{method}"\n'
    (tmp_path / "tuned.toml").write_text(f"{text}[method]\nlr = 0.1\n{setting}\n")
    name = setting.split()[0]
    with pytest.raises(InputError, match=rf"tuned.toml, method: has an unknown key '{name}'"):
        read_tuned(tmp_path, method)


def test_choices_are_read_again(tmp_path: Path):
    """Also those of failed trials, from the table."""
    trial = Trial(3, {"shrinkage": 0.5, "transform": "none"}, failed="batch 3: overflow")
    chosen = replace(trial, accuracy=50.0)
    write_log(tmp_path / "trials.csv", [trial])
    assert read_failed(tmp_path / "trials.csv") == [trial]
    write_tuned(tmp_path / "tuned.toml", "slda", chosen, {})
    assert read_tuned(tmp_path, "slda").values == trial.values
    text = (tmp_path / "tuned.toml").read_text()
    (tmp_path / "tuned.toml").write_text(text.replace('"none"', '"log"'))
    with pytest.raises(InputError, match=r"method.transform: is 'log'; give 'sqrt' or 'none'"):
        read_tuned(tmp_path, "slda")


def test_no_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"tuned.toml: cannot be read"):
        read_tuned(tmp_path, "ewc")
    assert find_method("ewc").tuned
