"""The stream loop from end to end, on real frames through a tiny network."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import crumb
from crumb.cli import pretrain as pretrain_command
from crumb.cli.main import main
from crumb.cli.stream import settings
from crumb.data.batches import Batch
from crumb.data.filelists import write_task_list
from crumb.data.index import Dataset, load_dataset
from crumb.data.protocol import TaskLayout, lay_out
from crumb.errors import InputError
from crumb.features.features import FeatureStore
from crumb.files import read_tensors
from crumb.methods.crumb import Crumb
from crumb.methods.finetune import Finetune
from crumb.methods.registry import methods
from crumb.stream.learner import new_learner
from crumb.stream.pretrain import PRETRAINED, pretrain
from crumb.stream.results import Results
from crumb.stream.tasks import epochs_of, held_out

TESTS = [f"top{k}_test_{t}_{p}" for k in (1, 5) for t in ("all", "1st", "current_task")
         for p in ("direct", "mem")]  # fmt: skip
FIVE = ("mean", "std", "max", "min", "sparsity")
STATISTICS = [
    *["", "run", "task", "epoch"],
    *[f"codebook_{figure}" for figure in FIVE],
    *[f"orig_fbanks_{figure}" for figure in FIVE],
    *[f"reconstr_fbanks_{figure}" for figure in FIVE],
    "reconstr_mse",
]

Streamed = Callable[..., Results]


def rows(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


def csv_files(results: Results) -> dict[str, bytes]:
    """Every table but the settings, which hold the name of the output folder."""
    paths = [path for path in results.folder.rglob("*.csv") if path.name != "hyperparams.csv"]
    return {str(path.relative_to(results.folder)): path.read_bytes() for path in paths}


def accuracies(results: Results) -> list[object]:
    return [[record.scores, record.reported, record.classes] for record in results.finished()]


# The results folder.


@pytest.mark.parametrize("protocol", ["class_instance", "iid"])
@pytest.mark.parametrize("method", ["crumb", "finetune", "offline"])
def test_results_folder(streamed: Streamed, method: str, protocol: str):
    words = ["--method", method, "--protocol", protocol, "--runs", "2", "--epochs-first-task", "3"]
    words += ["--joint-epochs", "1"] if method == "offline" else []
    results = streamed(*words, "--epochs", "2")
    names = {"hyperparams.csv", "config.toml", "metrics.json"} | {
        name
        for run in (0, 1)
        for name in (
            f"accuracy_matrix_run{run}.csv",
            f"class_accuracy_run{run}.csv",
            f"confusion_run{run}.csv",
            f"runs/run{run}.json",
            f"learner_run{run}.safetensors",
            *[f"all_epochs/{test}_all_epochs_run{run}.csv" for test in TESTS],
        )
    }
    names |= {f"{test}_all_runs.csv" for test in TESTS}
    names |= {"mem_stats.csv"} if method == "crumb" else set()
    found = [path for path in results.folder.rglob("*") if path.is_file()]
    assert {str(path.relative_to(results.folder)) for path in found} == names
    for test in TESTS:
        table = np.array(rows(results.folder / f"{test}_all_runs.csv"), dtype=float)
        assert table.shape == (2, 2)
        assert ((table >= 0) & (table <= 100)).all()
        for run in (0, 1):
            epochs = rows(results.folder / "all_epochs" / f"{test}_all_epochs_run{run}.csv")
            assert [len(row) for row in epochs] == [3, 3]
            assert [row.index("") if "" in row else None for row in epochs] == [None, 2]
            assert [float(epochs[0][2]), float(epochs[1][1])] == table[run].tolist()
    # After the first task the three tests are the same one.
    first = {rows(results.folder / f"top1_test_{t}_direct_all_runs.csv")[0][0]
             for t in ("all", "1st", "current_task")}  # fmt: skip
    assert len(first) == 1


def test_settings_are_kept_as_resolved(streamed: Streamed, dataset: Dataset):
    results = streamed("--method", "crumb", "--memory-size", "30")
    settings = dict(rows(results.folder / "hyperparams.csv"))
    assert settings["stream.dataset"] == str(dataset.folder)
    assert settings["stream.epochs_first_task"] == "2"
    assert settings["network.cut"] == "blocks.4"
    assert settings["method.memory_size"] == "30"
    assert settings["method.lr"] == "0.02"


def test_codebook_statistics(streamed: Streamed):
    results = streamed("--method", "crumb", "--runs", "2")
    header, *table = rows(results.folder / "mem_stats.csv")
    assert header == STATISTICS
    # Two runs of two epochs and one epoch, before the first and the last batch of each.
    places = [(run, *at) for run in "01" for at in [("0", "0"), ("0", "1"), ("1", "0")]]
    assert [tuple(row[1:4]) for row in table] == [at for at in places for _ in range(2)]
    assert [row[0] for row in table] == [str(number) for number in range(12)]
    values = np.array(table, dtype=float)
    assert (values[:, header.index("reconstr_mse")] > 0).all()
    assert not np.array_equal(values[0, 4:], values[1, 4:])


# What results depend on.


@pytest.mark.parametrize("method", ["crumb", "offline"])
def test_same_seed_same_bytes_and_runs_differ(streamed: Streamed, method: str):
    first, second = (csv_files(streamed("--method", method, "--runs", "2")) for _ in range(2))
    assert first == second
    name = "all_epochs/top1_test_all_direct_all_epochs_run{}.csv"
    assert first[name.format(0)] != first[name.format(1)]


def test_a_run_does_not_depend_on_the_runs_before_it(streamed: Streamed):
    both = streamed("--method", "crumb", "--runs", "2").finished()
    alone = streamed("--method", "crumb", "--first-run", "1").finished()
    assert (alone[0].run, alone[0].scores) == (1, both[1].scores)


def test_how_the_machine_is_used_changes_no_accuracy(streamed: Streamed):
    usual = accuracies(streamed("--method", "crumb"))
    for flags in (["--feature-cache-bytes", "0"], ["--workers", "1", "--test-batch-size", "5"]):
        assert accuracies(streamed("--method", "crumb", *flags, own_stores={})) == usual


@pytest.mark.parametrize("method", ["crumb", "offline"])
def test_file_lists_give_what_tasks_in_memory_give(
    streamed: Streamed, dataset: Dataset, tmp_path: Path, method: str
):
    layout = TaskLayout(classes_per_task=1)
    for run in (0, 1):
        write_task_list(
            lay_out(dataset, "class_iid", run, method == "offline", layout), tmp_path / "lists"
        )
    words = ["--method", method, "--protocol", "class_iid", "--runs", "2"]
    listed = streamed(*words, "--filelists", str(tmp_path / "lists"))
    laid_out = streamed(*words, "--classes-per-task", "1")
    assert csv_files(listed) == csv_files(laid_out)
    # Labels are numbered anew in each run; the lists do not say by what name.
    assert [r.classes for r in listed.finished()] == [r.classes for r in laid_out.finished()]


@pytest.fixture
def listed(streamed: Streamed, dataset: Dataset, tmp_path: Path) -> tuple[Results, Path]:
    """One run of two that lists were written for."""
    lists = tmp_path / "lists"
    for run in (0, 1):
        write_task_list(lay_out(dataset, "class_iid", run), lists)
    words = ["--method", "finetune", "--protocol", "class_iid", "--filelists", str(lists)]
    return streamed(*words, epochs=1), lists


def change(lists: Path, run: int) -> None:
    """Show the images of the first task in another order."""
    path = lists / f"class_iid/run{run}/stream/train_task_00_filelist.txt"
    first, second, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([second, first, *rows]))


def test_lists_that_have_changed_are_refused(streamed: Streamed, listed: tuple[Results, Path]):
    results, lists = listed
    streamed("--resume", str(results.folder), "--runs", "2", epochs=None)
    change(lists, 1)
    for runs in (["--runs", "2"], ["--first-run", "1", "--runs", "1"]):
        with pytest.raises(InputError, match=r"contents of the lists of run 1 \(filelists\)"):
            streamed("--resume", str(results.folder), *runs, epochs=None)
    # Whatever runs are asked for: all that are finished are averaged.
    with pytest.raises(InputError, match="other contents of the lists of run 1"):
        streamed("--resume", str(results.folder), "--runs", "1", epochs=None)
    # What run 1 began with is not forgotten by a call that cannot know its lists.
    lists.joinpath("class_iid/run1").rename(lists / "gone")
    streamed("--resume", str(results.folder), "--runs", "1", epochs=None)
    lists.joinpath("gone").rename(lists / "class_iid/run1")
    with pytest.raises(InputError, match="other contents of the lists of run 1"):
        streamed("--resume", str(results.folder), "--runs", "2", epochs=None)


@pytest.mark.parametrize("is_finished", [True, False])
def test_lists_of_runs_that_cannot_be_averaged(
    streamed: Streamed,
    listed: tuple[Results, Path],
    dataset: Dataset,
    tmp_path: Path,
    is_finished: bool,
):
    """Run 0 may be finished and its lists gone: its record tells its tasks."""
    results, lists = listed
    shutil.rmtree(lists / "class_iid/run1")
    write_task_list(lay_out(dataset, "class_iid", 1, layout=TaskLayout(classes_per_task=1)), lists)
    words = ["--runs", "2", "--output", str(tmp_path / "new")]
    if is_finished:
        shutil.rmtree(lists / "class_iid/run0")
        words = ["--resume", str(results.folder), "--first-run", "1", "--runs", "1"]
    else:
        words += ["--method", "finetune", "--protocol", "class_iid", "--filelists", str(lists)]
    with pytest.raises(InputError, match=r"have \d tasks in run 1, and \d in run 0"):
        streamed(*words, epochs=None if is_finished else 1)


def test_lists_may_be_moved(streamed: Streamed, listed: tuple[Results, Path], tmp_path: Path):
    results, lists = listed
    again = ["--resume", str(results.folder), "--filelists", str(tmp_path / "moved")]
    lists.rename(tmp_path / "moved")
    assert [r.run for r in streamed(*again, "--runs", "2", epochs=None).finished()] == [0, 1]
    change(tmp_path / "moved", 0)
    with pytest.raises(InputError, match="other contents of the lists of run 0"):
        streamed(*again, epochs=None)


def test_results_without_a_digest_of_their_lists(
    streamed: Streamed, listed: tuple[Results, Path], capsys: pytest.CaptureFixture[str]
):
    """Of an earlier Crumb: they are taken, which is said, and have one from then on."""
    results, lists = listed
    config = results.folder / "config.toml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("filelists_run")))
    capsys.readouterr()
    streamed("--resume", str(results.folder), "--runs", "2", epochs=None)
    said, *_ = capsys.readouterr().err.splitlines()
    assert said.startswith(
        f"{results.folder}: an earlier version of Crumb stored no digest of --filelists"
    )
    change(lists, 0)
    with pytest.raises(InputError, match="other contents of the lists of run 0"):
        streamed("--resume", str(results.folder), "--runs", "2", epochs=None)


def test_relative_paths_hold_in_another_folder(
    words: list[str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of data, weights, a pretrained file, lists and the cache: all are written as they are."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    data = load_dataset(Path(words[0]))
    (here / "data").symlink_to(data.folder)
    shutil.copy(weights, here / "tiny.safetensors")
    for run in (0, 1):
        write_task_list(lay_out(data, "class_instance", run), here / "lists")
    at = words.index("--weights")
    relative = ["data", *words[1:at], "--weights", "tiny.safetensors", *words[at + 2 :]]
    monkeypatch.chdir(here)
    assert main(["pretrain", *relative, "--epochs", "1", "--output", "before"]) == 0
    given = ["--pretrained", "before/pretrained.safetensors", "--filelists", "lists"]
    given += ["--feature-cache-folder", "cache", "--epochs-first-task", "1", "--output", "out"]
    assert main(["stream", *relative, *given]) == 0
    monkeypatch.chdir(there)
    for command, folder in (("stream", "out"), ("pretrain", "before")):
        more = ["--runs", "2"] if command == "stream" else []
        assert main([command, "--resume", str(here / folder), *more]) == 0
    assert not list(there.iterdir())
    # The same contents elsewhere are the same weights; others are not.
    shutil.copy(weights, there / "copy.safetensors")
    again = ["stream", "--resume", str(here / "out"), "--weights"]
    assert main([*again, "copy.safetensors"]) == 0
    assert main([*again, "random"]) == 2


def test_resuming_equals_one_call(streamed: Streamed):
    whole = streamed("--method", "crumb", "--runs", "2", "--save-model")
    parts = streamed("--method", "crumb")
    output = ["--output", str(parts.folder), "--resume", str(parts.folder)]
    before = (parts.folder / "runs" / "run0.json").read_bytes()
    streamed("--method", "crumb", "--runs", "2", *output)
    assert csv_files(parts) == csv_files(whole)
    assert (parts.folder / "runs" / "run0.json").read_bytes() == before
    # The models were not asked for before: those runs are done again.
    streamed("--method", "crumb", "--runs", "2", *output, "--save-model")
    assert csv_files(parts) == csv_files(whole)
    for name in ("learner_run0.safetensors", "learner_run1.safetensors"):
        again, once = (read_tensors(part.folder / name, "")[0] for part in (parts, whole))
        assert again.keys() == once.keys()
        assert all(torch.equal(again[key], once[key]) for key in once)


# What a learner is shown.


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    """Registers a method for one test."""
    return lambda kind: monkeypatch.setitem(methods(), kind.name, kind)


@pytest.mark.parametrize("protocol", ["iid", "class_iid", "instance", "class_instance"])
@pytest.mark.parametrize("offline", [False, True])
def test_each_image_is_learned_as_often_as_asked_in_order(
    streamed: Streamed,
    spy: Callable,
    stores: dict[str, FeatureStore],
    dataset: Dataset,
    protocol: str,
    offline: bool,
):
    seen: list[Batch] = []

    class Spy(Finetune):
        name = "spy"

        def learn(self, batch: Batch) -> dict[str, Tensor]:
            seen.append(batch)
            assert int(batch.labels.max()) < len(self.classes)
            return super().learn(batch)

    Spy.offline = offline
    spy(Spy)
    streamed("--method", "spy", "--protocol", protocol, "--epochs-first-task", "3", "--epochs", "2")
    (store,) = stores.values()
    tasks = lay_out(dataset, protocol, 0, offline).tasks
    expected = [frames for frames, epochs in zip(tasks, (3, 2), strict=True) for _ in range(epochs)]
    labels = torch.cat([batch.labels for batch in seen])
    assert labels.tolist() == [label for frames in expected for label in frames.labels.tolist()]
    features = store.get([path for frames in expected for path in frames.paths])
    assert torch.equal(torch.cat([batch.features for batch in seen]), features)
    sizes = [len(frames.paths) for frames in expected]
    cut = [min(12, size - start) for size in sizes for start in range(0, size, 12)]
    assert [len(batch) for batch in seen] == cut
    # Read for the first time in the first epoch of each task.
    passes = [n in (0, 3) for n, size in enumerate(sizes) for _ in range(0, size, 12)]
    assert [batch.first_pass for batch in seen] == passes


def test_memory_is_replayed_from_the_second_task_on_and_not_written_after_the_last(
    streamed: Streamed, spy: Callable
):
    events: list[str] = []
    learners: list[Crumb] = []
    written: dict[str, Tensor] = {}

    def kept(learner: Crumb) -> dict[str, Tensor]:
        """All that is no network and no generator: what is kept of exemplars."""
        others = ("network.", "generator.", "momentum.", "codebook.")
        state = learner.state_dict()
        return {k: v.clone() for k, v in state.items() if not k.startswith(others)}

    class Spy(Crumb):
        name = "spy"

        def learn(self, batch: Batch) -> dict[str, Tensor]:
            losses = super().learn(batch)
            events.append("replay" if "replay" in losses else "new")
            return losses

        def end_task(self, batches) -> None:
            super().end_task(batches)
            events.append("end")
            learners.append(self)
            written.clear()
            written.update(kept(self))

    spy(Spy)
    streamed("--method", "spy", "--classes-per-task", "1")
    # 21 images a task: two epochs of two batches, then one epoch for each of three tasks.
    assert events == [*["new"] * 4, "end", *["replay", "replay", "end"] * 2, "replay", "replay"]
    learner = learners[-1]
    assert learner.bytes_held().replay > 0
    state = kept(learner)
    assert state.keys() == written.keys()
    assert all(torch.equal(state[name], written[name]) for name in state)


@pytest.mark.parametrize("storage", ["feature", "image", "raw_feature", "merec", "none"])
@pytest.mark.parametrize("policy", ["end-of-task", "on-arrival"])
def test_every_storage_streams(streamed: Streamed, storage: str, policy: str):
    words = ["--method", "crumb", "--storage", storage, "--write-policy", policy]
    sized = storage not in ("merec", "none")
    (record,) = streamed(*words, *(["--memory-size", "10"] if sized else [])).finished()
    row = {"feature": 300, "image": 3 * 160 * 160, "raw_feature": 4 * 4800, "none": 0}
    if storage == "merec":
        # Two feature maps for each class that was written.
        classes = 2 if policy == "end-of-task" else 4
        assert record.replay_bytes == classes * 2 * 4 * 4800
    else:
        assert record.replay_bytes == 10 * row[storage]
    assert len(record.scores) == 2
    assert bool(record.statistics) == (storage in ("feature", "none"))


def test_replay_keeps_old_classes_alive(streamed: Streamed):
    """On arrival and at the end of tasks alike, replay beats keeping nothing."""

    def first_task_at_the_end(*words: str) -> float:
        (record,) = streamed(*words, "--epochs-first-task", "6", "--epochs", "3").finished()
        return record.after(1).accuracy[1, "1st", "direct"]

    forgotten = first_task_at_the_end("--method", "finetune")
    assert first_task_at_the_end("--method", "crumb") > forgotten
    assert first_task_at_the_end("--method", "crumb", "--write-policy", "on-arrival") > forgotten


def test_a_saved_learner_predicts_the_same(
    streamed: Streamed, spy: Callable, dataset: Dataset, stores: dict[str, FeatureStore]
):
    results = streamed("--method", "crumb", "--save-model")
    learner = crumb.load(results.folder / "learner_run0.safetensors")
    tasks = lay_out(dataset, "class_instance", 0)
    assert learner.classes == list(tasks.classes)
    (record,) = results.finished()
    (store,) = stores.values()
    named = learner.predict(store.pixels.get(tasks.test.paths))
    right = [tasks.classes[label] for label in tasks.test.labels]
    share = 100 * sum(a == b for a, b in zip(named, right, strict=True)) / len(right)
    assert share == record.after(1).accuracy[1, "all", "direct"]


# The best epoch.


def scripted(store: FeatureStore, dataset: Dataset, seen: dict[str, list]) -> type[Finetune]:
    """A learner that is best on held-out images after its second epoch, on test images later."""
    tasks = lay_out(dataset, "class_instance", 0)
    label_of: dict[bytes, int] = {}
    path_of: dict[bytes, str] = {}
    for frames in (*tasks.tasks, tasks.test):
        maps = store.get(frames.paths)
        for path, label, features in zip(frames.paths, frames.labels.tolist(), maps, strict=True):
            label_of[features.numpy().tobytes()] = label
            path_of[features.numpy().tobytes()] = path
    tested = set(tasks.test.paths)

    class Scripted(Finetune):
        name = "scripted"
        epochs = 0

        def learn(self, batch: Batch) -> dict[str, Tensor]:
            seen["learned"] += [path_of[f.numpy().tobytes()] for f in batch.features]
            return super().learn(batch)

        @contextmanager
        def evaluation(self) -> Iterator[None]:  # type: ignore[override]
            # The state of the learner is all that tells which epoch it is in.
            yield

        def scores(self, features: Tensor) -> Tensor:
            keys = [f.numpy().tobytes() for f in features]
            test = path_of[keys[0]] in tested
            if not test:
                seen["selected"] += [path_of[key] for key in keys]
            seen["passes"].append(test)
            epoch = sum(seen["passes"])
            with torch.no_grad():
                self.network.head.bias.fill_(epoch)  # type: ignore[union-attr]
            right = epoch == (3 if test else 2)
            labels = [label_of[key] if right else 0 for key in keys]
            return torch.nn.functional.one_hot(torch.tensor(labels), len(self.classes)).float()

        def begin_task(self, names) -> None:
            seen["bias"].append(self.network.head.bias[0].item())  # type: ignore[index]
            super().begin_task(names)

        needs_task_boundaries = True

    return Scripted


def test_the_best_epoch_is_chosen_on_training_images_never_learned(
    streamed: Streamed, spy: Callable, stores: dict[str, FeatureStore], dataset: Dataset
):
    streamed("--method", "finetune")
    (store,) = stores.values()
    seen: dict[str, list] = {"learned": [], "selected": [], "passes": [], "bias": []}
    spy(scripted(store, dataset, seen))
    words = ["--method", "scripted", "--select-best-epoch", "--validation-share", "0.3"]
    (record,) = streamed(*words, "--epochs-first-task", "4").finished()
    # The second of four epochs, though the third did best on test images.
    assert record.reported == [1, 0]
    direct = [score.accuracy[1, "all", "direct"] for score in record.scores[0]]
    assert direct == [50, 50, 100, 50]
    assert record.figures()["average_accuracy"] == pytest.approx((50 + direct_last(record)) / 2)
    # Back at the weights of that epoch when the second task begins.
    assert seen["bias"][1] == 2
    first, second = lay_out(dataset, "class_instance", 0).tasks
    held = set(seen["selected"])
    assert held < set(first.paths)
    assert not held & set(seen["learned"])
    assert held | set(seen["learned"]) == {*first.paths, *second.paths}
    assert seen["passes"].count(False) == 4


def direct_last(record) -> float:
    return record.scores[1][0].accuracy[1, "all", "direct"]


@pytest.mark.parametrize("protocol", ["class_iid", "instance"])
def test_no_offline_task_learns_what_another_selects_on(
    dataset: Dataset, words: list[str], protocol: str
):
    flags = ["--method", "offline", "--protocol", protocol, "--select-best-epoch", "--epochs", "3"]
    config = settings([*words, *flags])[0]
    tasks = lay_out(dataset, protocol, 2, offline=True)
    masks = held_out(config, tasks, epochs_of(config, tasks))
    held = [
        {path for path, mask in zip(frames.paths, masks[task], strict=True) if mask}
        for task, frames in enumerate(tasks.tasks)
    ]
    assert held[0] <= held[1]
    learned = {path for path, mask in zip(tasks.tasks[0].paths, masks[0], strict=True) if not mask}
    assert not held[1] & learned
    assert 0 < len(held[1]) < 30


# Pretraining.


@pytest.fixture(scope="session")
def pretrained(
    dataset: Dataset, network_words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("pretrained") / "out"
    words = ["--batch-size", "20", "--lr", "0.01", "--epochs", "2", "--output", str(output)]
    results = pretrain(*pretrain_command.settings([str(dataset.folder), *network_words, *words]))
    (record,) = results.finished()
    assert len(record.scores) == 1
    assert len(record.scores[0]) == 2
    assert record.images == 2 * 84
    assert record.replay_bytes == 0
    return output / PRETRAINED


def test_streaming_starts_from_the_pretrained_tail_and_codebook(pretrained: Path, words: list[str]):
    config, network, method = settings([*words, "--pretrained", str(pretrained)])
    learner = new_learner(config, network, method, 3)
    plain = new_learner(replace(config, pretrained=None), network, method, 3)
    file, _ = read_tensors(pretrained, "")
    state, fresh = learner.state_dict(), plain.state_dict()
    head = [f"network.tail.{learner.network.head_name}.{part}" for part in ("weight", "bias")]
    tail = [name for name in state if name.startswith("network.tail.") and name not in head]
    assert len(tail) > 4
    assert all(torch.equal(state[name], file[name]) for name in tail)
    assert any(not torch.equal(state[name], fresh[name]) for name in tail)
    assert torch.equal(state["codebook.blocks"], file["codebook.blocks"])
    learner.start_head(4)
    plain.start_head(4)
    for name in head:
        assert torch.equal(learner.state_dict()[name], plain.state_dict()[name])
        assert file[name].shape != fresh[name].shape or not torch.equal(file[name], fresh[name])
    assert not [name for name in state if name.startswith("momentum.")]


@pytest.mark.parametrize("method", ["crumb", "finetune"])
def test_streams_from_pretrained(streamed: Streamed, pretrained: Path, method: str):
    words = ["--method", method, "--runs", "2"]
    started = streamed(*words, "--pretrained", str(pretrained))
    assert accuracies(started) != accuracies(streamed(*words))
    settings = dict(rows(started.folder / "hyperparams.csv"))
    assert settings["stream.pretrained"] == str(pretrained)


def test_metrics_are_those_of_the_accuracies(streamed: Streamed):
    results = streamed("--method", "finetune", "--classes-per-task", "1", "--runs", "2")
    metrics = json.loads((results.folder / "metrics.json").read_text())
    for run in (0, 1):
        matrix = [
            [float(cell) if cell else None for cell in row]
            for row in rows(results.folder / f"accuracy_matrix_run{run}.csv")
        ]
        assert [[cell is None for cell in row] for row in matrix] == [
            [column > row for column in range(4)] for row in range(4)
        ]
        drops = [
            max(matrix[row][column] for row in range(column, 3)) - matrix[3][column]  # type: ignore
            for column in range(3)
        ]
        assert metrics["runs"][run]["forgetting"] == pytest.approx(sum(drops) / 3)
        top = rows(results.folder / "top1_test_all_direct_all_runs.csv")[run]
        # Each class has nine test images, so the whole is the mean of its classes.
        for task, cell in enumerate(top):
            known = [value for value in matrix[task] if value is not None]
            assert float(cell) == pytest.approx(sum(known) / len(known))
        assert metrics["runs"][run]["average_accuracy"] == pytest.approx(sum(map(float, top)) / 4)
