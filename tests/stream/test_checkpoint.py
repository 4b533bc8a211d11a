"""A run that is ended at any moment and goes on ends in the same bytes."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.complaints import complaints
from torch import Tensor

from crumb import files
from crumb.cli.main import main
from crumb.cli.pretrain import settings as parse_pretraining
from crumb.cli.stream import settings as parse
from crumb.data.batches import Batch
from crumb.data.index import Dataset, load_dataset, write_dataset
from crumb.data.protocol import TaskLayout, lay_out
from crumb.errors import InputError, Terminated
from crumb.files import read_tensors, write_tensors
from crumb.methods.base import Learner
from crumb.methods.finetune import Finetune
from crumb.methods.registry import methods
from crumb.stream import checkpoint
from crumb.stream.checkpoint import Checkpoints
from crumb.stream.learner import new_learner
from crumb.stream.pretrain import PRETRAINED, pretrain
from crumb.stream.results import Results
from crumb.stream.run import stream as run_stream

Streamed = Callable[..., Results]


class Killed(BaseException):
    """Nothing catches it."""


def everything(folder: Path) -> tuple[dict[str, bytes], dict[str, Tensor]]:
    """Every table, and the final tensors."""
    tables = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.csv")}
    tensors: dict[str, Tensor] = {}
    for path in folder.glob("learner_run*.safetensors"):
        found, _ = read_tensors(path, "")
        tensors |= {f"{path.stem} {name}": value for name, value in found.items()}
    return tables, tensors


def assert_same(one: Path, other: Path) -> None:
    (tables, tensors), (others, found) = everything(one), everything(other)
    # The settings name the folder.
    del tables["hyperparams.csv"], others["hyperparams.csv"]
    assert others == tables
    assert found.keys() == tensors.keys()
    assert tensors
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


CASES = {
    "finetune": ["--method", "finetune"],
    "crumb": ["--method", "crumb", "--memory-size", "10"],
    "on arrival": ["--method", "crumb", "--memory-size", "10", "--write-policy", "on-arrival"],
    "images": ["--storage", "image", "--memory-size", "10", "--write-policy", "on-arrival"],
    "Gaussians": ["--storage", "merec"],
    "best epoch": ["--memory-size", "9", "--select-best-epoch", "--epochs", "3"],
    "offline": ["--method", "offline", "--joint-epochs", "1"],
    "joint training until it has converged": ["--method", "offline", "--convergence", "0.9"],
    "training at the end of a task": [
        *("--method", "rainbow", "--memory-size", "10", "--memory-only-epochs", "2")
    ],
    "another engine": ["--memory-size", "10", "--engine", "onnxruntime"],
}
ALWAYS = ["--save-model", "--save-tasks", "--classes-per-task", "1", "--checkpoint-batches", "1"]


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Kill the process, so to speak, right after so many checkpoints."""
    save = Checkpoints.save
    left: list[int | None] = [None]

    def counted(self: Checkpoints, *arguments: object) -> None:
        save(self, *arguments)  # type: ignore[arg-type]
        if left[0] is not None:
            left[0] -= 1
            if not left[0]:
                left[0] = None
                raise Killed

    monkeypatch.setattr(Checkpoints, "save", counted)
    return lambda count: left.__setitem__(0, count)


@pytest.mark.usefixtures("all_engines")
@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_goes_on_to_the_bit(streamed: Streamed, killed_after, case: str):
    words = [*CASES[case], *ALWAYS]
    whole = streamed(*words)
    parts = None
    for count in (1, 2, 3, 5):
        killed_after(count)
        resume = [] if parts is None else ["--output", str(parts), "--resume", str(parts)]
        with pytest.raises(Killed):
            streamed(*words, *resume)
        parts = whole.folder.with_name("results2") if parts is None else parts
    killed_after(None)
    assert parts is not None
    results = streamed(*words, "--output", str(parts), "--resume", str(parts))
    assert_same(whole.folder, results.folder)
    assert not (parts / "checkpoints").exists()
    (record,), (other,) = whole.finished(), results.finished()
    counted = ("images", "replay_bytes", "extra_bytes", "reported", "classes")
    counted += ("gradient_steps", "tail_maps", "images_read_again", "distinct_images")
    assert all(getattr(record, name) == getattr(other, name) for name in counted)


# The first of two tasks of 42 images is read twice, in four batches; the second one once.
@pytest.mark.parametrize(
    ("count", "number"),
    [(1, signal.SIGINT), (4, signal.SIGTERM), (6, signal.SIGINT), (8, signal.SIGTERM)],
)
def test_a_signal_is_noticed_between_batches(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, count: int
):
    """Also one that comes in the last batch of a reading, before the test."""
    words = ["--method", "spy", "--save-model"]
    seen: list[int] = []

    class Spy(Finetune):
        name = "spy"

        def learn(self, batch: Batch) -> dict[str, Tensor]:
            seen.append(0)
            if len(seen) == stop_at:
                signal.raise_signal(number)
            return super().learn(batch)

    monkeypatch.setitem(methods(), "spy", Spy)
    before = signal.getsignal(number)
    stop_at = 0
    whole = streamed(*words)
    batches = len(seen)
    seen.clear()
    stop_at = count
    with pytest.raises((KeyboardInterrupt, Terminated), match="crumb stream --resume"):
        streamed(*words)
    assert signal.getsignal(number) == before
    assert len(seen) == count
    folder = whole.folder.with_name("results2")
    assert_same(whole.folder, streamed("--output", str(folder), "--resume", str(folder)).folder)
    assert len(seen) == batches


def interrupted(streamed: Streamed, killed_after, *words: str, after: int = 5) -> Path:
    """A folder with two checkpoints."""
    killed_after(after)
    with pytest.raises(Killed):
        streamed("--method", "finetune", *ALWAYS, *words)
    folder = next(Path.cwd().glob("results*"))
    assert len(list((folder / "checkpoints").iterdir())) == 2
    return folder


@pytest.mark.usefixtures("here")
def test_the_learner_after_an_earlier_task_must_be_there(streamed: Streamed, killed_after):
    """It cannot be had any more; without it the run goes on."""
    words = ["--method", "finetune", "--classes-per-task", "1"]
    killed_after(2)
    with pytest.raises(Killed):
        streamed(*words, "--output", "begun")
    resume = ["--output", "begun", "--resume", "begun"]
    with pytest.raises(InputError, match=r"task01\.safetensors: is missing.*save_tasks"):
        streamed(*words, *resume, "--save-tasks")
    assert len(streamed(*words, *resume, "--no-save-tasks").finished()) == 1


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").iterdir())


@pytest.mark.usefixtures("here")
def test_what_it_goes_on_with_is_said(streamed: Streamed, killed_after, capsys):
    folder = interrupted(streamed, killed_after)
    capsys.readouterr()
    streamed("--resume", str(folder))
    # Tasks of 21 images are two batches; a checkpoint after each, and one at the end of a task.
    assert complaints(capsys.readouterr().err) == [
        "run 0 resumes from run0_000004.safetensors: task 2 of 4, epoch 1, first batch"
    ]


@settings(max_examples=40)
@given(data=st.data())
def test_a_checkpoint_cut_or_changed_anywhere_is_not_used(
    data: st.DataObject, kept: Path, tmp_path_factory: pytest.TempPathFactory
):
    content = kept.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(0, 255))
    rest = bytes([content[at] ^ flip]) + content[at + 1 :] if flip else b""
    path = tmp_path_factory.mktemp("damaged") / kept.name
    path.write_bytes(content[:at] + rest)
    reader = Checkpoints(path.parent, *ARGUMENTS)
    found = allowed(reader, path)
    if found is not None:
        # What differs is no value: a blank in the header, say.
        tensors, about = found
        original = reader._read(kept)
        assert original is not None
        assert about == original[1]
        assert all(torch.equal(value, original[0][name]) for name, value in tensors.items())


ARGUMENTS: list = []


def allowed(reader: Checkpoints, path: Path) -> tuple[dict[str, Tensor], dict] | None:
    """A changed version or digest of the data may be told as such."""
    try:
        return reader._read(path)
    except InputError as error:
        if "is of version" in str(error) or "other images" in str(error):
            return None
        raise


@pytest.fixture(scope="module")
def kept(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a learner with all there is to one."""
    folder = tmp_path_factory.mktemp("kept")
    flags = ["--memory-size", "4", "--write-policy", "on-arrival", "--output", str(folder / "out")]
    save = Checkpoints.save

    def once(self: Checkpoints, *arguments: object) -> None:
        save(self, *arguments)  # type: ignore[arg-type]
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", once)
        with pytest.raises(Killed):
            run_stream(*parse([*words, *flags, "--checkpoint-batches", "3"]))
    dataset = load_dataset(Path(words[0]))
    ARGUMENTS[:] = [lay_out(dataset, "class_instance", 0), 10.0, None, dataset.images]
    (path,) = (folder / "out" / "checkpoints").iterdir()
    return path


@pytest.mark.usefixtures("here")
def test_the_one_before_a_damaged_checkpoint_is_used(streamed: Streamed, killed_after, capsys):
    whole = streamed("--method", "finetune", *ALWAYS)
    whole.folder.rename("whole")
    folder = interrupted(streamed, killed_after)
    content = newest(folder).read_bytes()
    flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
    for damage, found in {"cut": content[:-9], "empty": b"", "flip": flipped}.items():
        damaged = Path(shutil.copytree(folder, damage))
        newest(damaged).write_bytes(found)
        capsys.readouterr()
        results = streamed("--resume", str(damaged))
        assert complaints(capsys.readouterr().err) == [
            "run0_000004.safetensors is damaged and was ignored",
            "run 0 resumes from run0_000003.safetensors: task 1 of 4, epoch 2, after batch 2",
        ]
        assert_same(Path("whole"), results.folder)


@pytest.mark.usefixtures("here")
def test_a_checkpoint_of_another_version_is_refused(
    streamed: Streamed, killed_after, monkeypatch: pytest.MonkeyPatch
):
    folder = interrupted(streamed, killed_after)
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    with pytest.raises(
        InputError, match=r"run0_\d+.safetensors: is of version 1, not 2; resume with"
    ):
        streamed("--resume", str(folder))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("index", "was made with other contents of the file of the index"),
        ("image", "has learned from images whose size has changed"),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(
    streamed: Streamed, killed_after, dataset_copy: Path, change: str, problem: str
):
    folder = interrupted(streamed, killed_after)
    whole = load_dataset(dataset_copy)
    if change == "index":
        write_dataset(replace(whole, index=whole.index.drop(index=5).reset_index(drop=True)))
    else:
        # Of the first task, which is over.
        layout = TaskLayout(classes_per_task=1)
        first = lay_out(whole, "class_instance", 0, layout=layout).tasks[0].paths[0]
        Image.new("RGB", (9, 9)).save(whole.images / first)
    settings = folder / "config.toml"
    text = settings.read_text().splitlines()
    text = [f'dataset = "{dataset_copy}"' if x.startswith("dataset =") else x for x in text]
    settings.write_text("\n".join(text))
    with pytest.raises(InputError, match=problem):
        run_stream(*parse(["--resume", str(folder)]))


@pytest.mark.usefixtures("here")
def test_a_checkpoint_of_another_front_is_refused(
    streamed: Streamed, killed_after, weights: Path, tmp_path: Path
):
    mine = tmp_path / "mine.safetensors"
    shutil.copy(weights, mine)
    folder = interrupted(streamed, killed_after, "--weights", str(mine))
    state = load_file(mine)
    save_file({name: 2 * value for name, value in state.items()}, mine)
    with pytest.raises(InputError, match="other contents of the file of the weights"):
        run_stream(*parse(["--resume", str(folder)]))


@pytest.mark.usefixtures("here")
def test_a_checkpoint_of_other_settings_is_refused(streamed: Streamed, killed_after):
    folder = interrupted(streamed, killed_after)
    with pytest.raises(InputError, match="method.lr = 0.02, not 0.5"):
        streamed("--resume", str(folder), "--lr", "0.5")


@pytest.mark.usefixtures("here")
def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []
    healthy = Finetune.learn

    def learn(self: Finetune, batch: object) -> dict[str, Tensor]:
        seen.append(0)
        losses = healthy(self, batch)  # type: ignore[arg-type]
        return {"direct": losses["direct"] / (0 if len(seen) == 4 else 1)}

    monkeypatch.setattr(Finetune, "learn", learn)
    with pytest.raises(InputError, match="task 0, epoch 1, batch 1"):
        streamed("--method", "finetune", *ALWAYS, "--output", "out")
    _, meta = read_tensors(newest(Path("out")), "")
    about = json.loads(meta[checkpoint.FORMAT])[1]
    assert (about["task"], about["epoch"], about["batch"]) == (0, 1, 1)


@pytest.mark.usefixtures("here")
def test_a_run_without_a_whole_checkpoint_begins_again(streamed: Streamed, killed_after, capsys):
    whole = streamed("--method", "finetune", *ALWAYS)
    whole.folder.rename("whole")
    folder = interrupted(streamed, killed_after)
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(b"no checkpoint")
    capsys.readouterr()
    results = streamed("--resume", str(folder))
    assert complaints(capsys.readouterr().err) == [
        "run0_000004.safetensors is damaged and was ignored",
        "run0_000003.safetensors is damaged and was ignored",
    ]
    assert_same(Path("whole"), results.folder)


# Pretraining.


def pretrained(words: list[str], *more: str) -> Results:
    return pretrain(*parse_pretraining([*words, "--epochs", "2", *more]))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("count", [2, 8])
def test_pretraining_goes_on_to_the_bit(words: list[str], killed_after, count: int):
    words = [*words, "--checkpoint-batches", "1"]
    whole = pretrained(words, "--output", "whole")
    killed_after(count)
    with pytest.raises(Killed):
        pretrained(words, "--output", "parts")
    assert main(["pretrain", "--resume", "parts"]) == 0
    for path in whole.folder.rglob("*.csv"):
        if path.name != "hyperparams.csv":
            assert (Path("parts") / path.relative_to("whole")).read_bytes() == path.read_bytes()
    tensors, _ = read_tensors(Path("whole") / PRETRAINED, "")
    found, _ = read_tensors(Path("parts") / PRETRAINED, "")
    assert tensors.keys() == found.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert not Path("parts/checkpoints").exists()


@pytest.mark.usefixtures("here")
def test_a_folder_of_another_command_is_refused(words: list[str], streamed: Streamed, capsys):
    pretrained(words, "--output", "before")
    assert main(["stream", "--resume", "before"]) == 2
    assert complaints(capsys.readouterr().err) == [
        "crumb: --resume before: was not written by crumb stream; resume with crumb pretrain"
    ]
    folder = streamed("--method", "finetune").folder
    assert main(["pretrain", "--resume", str(folder)]) == 2
    assert "resume with crumb stream" in capsys.readouterr().err


# What the machine is.


def restored(path: Path, learner: Learner) -> Checkpoints:
    reader = Checkpoints(path.parent, *ARGUMENTS)
    assert reader.restore(learner) is not None
    return reader


@pytest.fixture
def fresh(words: list[str]) -> Learner:
    """Like that of ``kept``, before it has learned."""
    flags = ["--memory-size", "4", "--write-policy", "on-arrival"]
    learner = new_learner(*parse([*words, *flags]), 0)
    learner.start_head(4)
    return learner


def test_other_threads_and_versions_are_told(
    kept: Path, fresh: Learner, monkeypatch: pytest.MonkeyPatch
):
    assert restored(kept, fresh).changed == []
    now = {"device": "cpu", "threads": 7, "torch": "9.9", "engine": "torch", "tail": "compiled"}
    monkeypatch.setattr(checkpoint, "_machine", lambda _: now)
    threads, version, tail = restored(kept, fresh).changed
    assert threads == f"{torch.get_num_threads()} threads of torch, now 7"
    assert version == f"{torch.__version__} as torch's version, now 9.9"
    # The choice of --compile is measured again at each start.
    assert tail == "not compiled as the tail, now compiled"


def test_another_kind_of_device_is_refused(
    kept: Path, fresh: Learner, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fresh, "device", torch.device("cuda"))
    with pytest.raises(InputError, match="was made with device='cpu', this is cuda; give"):
        restored(kept, fresh)


def test_another_engine_is_refused_and_another_version_of_it_told(
    kept: Path, fresh: Learner, monkeypatch: pytest.MonkeyPatch
):
    machine = checkpoint._machine(fresh)
    monkeypatch.setattr(checkpoint, "_machine", lambda _: machine)
    machine["engine"] = "onnxruntime 1.31"
    with pytest.raises(InputError, match="made with engine='torch', this is onnxruntime; give"):
        restored(kept, fresh)
    reader = Checkpoints(kept.parent, *ARGUMENTS)
    reader._check_machine(kept, {**machine, "engine": "onnxruntime 1.30"}, machine)
    assert reader.changed == ["onnxruntime 1.30 as the engine of the front, now onnxruntime 1.31"]


@pytest.mark.parametrize("lost", ["bytes", "machine", "record", "classes", "task", "tensors"])
def test_a_whole_checkpoint_that_lacks_something_is_refused(
    kept: Path, fresh: Learner, tmp_path: Path, lost: str
):
    """As one written before that something was in it."""
    tensors, meta = read_tensors(kept, "")
    about = json.loads(meta[checkpoint.FORMAT])[1]
    if lost == "tensors":
        tensors.pop(next(name for name in tensors if name.startswith("learner.network.tail")))
    else:
        about.pop(lost)
    seal = checkpoint._seal(tensors, about)
    write_tensors(tmp_path / kept.name, tensors, {checkpoint.FORMAT: json.dumps([seal, about])})
    with pytest.raises(
        InputError, match="was written by another version of Crumb .*; resume with that version"
    ):
        restored(tmp_path / kept.name, fresh)


def test_another_front_is_refused(kept: Path, fresh: Learner):
    for value in fresh.network.front.parameters():
        value.data.mul_(2)
    with pytest.raises(InputError, match="other weights of the frozen feature extractor"):
        restored(kept, fresh)


def test_a_checkpoint_that_cannot_be_read_now_is_not_given_up(
    kept: Path, fresh: Learner, monkeypatch: pytest.MonkeyPatch
):
    def file_size(path: Path) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "file_size", file_size)
    with pytest.raises(InputError, match="Input/output error"):
        restored(kept, fresh)
    assert kept.exists()


def test_a_damaged_checkpoint_takes_no_good_ones_place(
    streamed: Streamed, killed_after, tmp_path: Path
):
    folder = tmp_path / "out"
    killed_after(5)
    with pytest.raises(Killed):
        streamed("--method", "finetune", *ALWAYS, "--output", str(folder))
    good, bad = sorted((folder / "checkpoints").iterdir())
    bad.write_bytes(b"damaged")
    killed_after(1)
    with pytest.raises(Killed):
        streamed("--resume", str(folder))
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == [good.name, "run0_000005.safetensors"]


def test_what_is_not_a_checkpoint_is_left_alone(streamed: Streamed, killed_after, tmp_path: Path):
    killed_after(3)
    with pytest.raises(Killed):
        streamed("--method", "finetune", *ALWAYS, "--output", str(tmp_path / "out"))
    mine = tmp_path / "out" / "checkpoints" / "run0_keep.safetensors"
    mine.write_bytes(newest(tmp_path / "out").read_bytes())
    streamed("--resume", str(tmp_path / "out"))
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]


def test_nothing_is_left_of_a_run_that_is_finished(streamed: Streamed, dataset: Dataset):
    assert not (streamed("--method", "finetune", *ALWAYS).folder / "checkpoints").exists()
