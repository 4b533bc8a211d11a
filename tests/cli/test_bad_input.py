"""Input that cannot be used: one line that names it, exit code 2, and nothing written."""

import csv
import io
import itertools
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import crumb
from crumb.cli.main import main
from crumb.data.filelists import write_task_list
from crumb.data.index import Dataset
from crumb.data.protocol import TaskLayout, lay_out
from crumb.methods.finetune import Finetune

Refused = Callable[..., str]

INTEGERS = {
    "--runs": 1,
    "--first-run": 0,
    "--batch-size": 1,
    "--epochs": 1,
    "--epochs-first-task": 1,
    "--classes-per-task": 1,
    "--images-per-task": 1,
    "--clips-per-task": 1,
    "--test-batch-size": 1,
    "--workers": 1,
    "--feature-cache-bytes": 0,
    "--top-k": 1,
    "--blocks": 1,
    "--block-length": 1,
    "--memory-size": 1,
    "--memory-bytes": 1,
    "--replay-times": 0,
}
NUMBERS = {
    "--lr": ("0",),
    "--clip": ("0",),
    "--momentum": ("1", "1.5"),
    "--weight-decay": (),
    "--replay-coefficient": (),
    "--codebook-loss": (),
    "--direct-loss": (),
    "--validation-share": ("0", "1", "1.5"),
    "--dropout": ("1", "1.5"),
}


@pytest.fixture
def stream(words: list[str], output: Path) -> list[object]:
    return ["stream", *words, "--output", output]


# Commands and flags.


@pytest.mark.parametrize("word", ["strem", "-v", "--output", ""])
def test_unknown_command(refused: Refused, word: str):
    refused(word, names="is no command")


@pytest.mark.parametrize("command", ["demo", "index", "data", "tasks", "pretrain", "stream"])
def test_unknown_flag(refused: Refused, command: str):
    refused(command, "--colour", "red", names=f"crumb {command}")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--method", "ewc"),
        ("--protocol", "random"),
        ("--backbone", "squeezenet9"),
        ("--preset", "core50/ewc"),
        ("--preset", "no_such_file.toml"),
        ("--initialiser", "sorted"),
        ("--storage", "tape"),
        ("--write-policy", "never"),
        ("--device", "cuda:7"),
        ("--device", "abacus"),
        ("--device", "cpu:1"),
        ("--colour", "red"),
    ],
)
def test_unknown_names(refused: Refused, stream: list, flag: str, value: str):
    refused(*stream, flag, value, names=(flag if flag != "--preset" else value, value))


@pytest.mark.parametrize("flag", ["--method", "--preset", "--runs", "--lr", "--protocol"])
def test_a_flag_without_value(refused: Refused, words: list[str], flag: str):
    refused("stream", *words, flag, names=flag if flag != "--method" else "crumb stream")


@pytest.mark.parametrize("command", ["stream", "pretrain", "tasks", "data", "index"])
def test_nothing_but_the_command(refused: Refused, command: str):
    line = refused(command, names=f"crumb {command}")
    assert "missing; see" in line
    assert "(required)" not in line


def test_what_is_missing(refused: Refused):
    refused("index", "toybox", names="crumb index: PATH is missing; see crumb index --help")
    refused("data", names="crumb data: {stats} and PATH are missing; see crumb data --help")


@pytest.mark.parametrize(
    ("flag", "meant"), [("--memory-sise", "--memory-size"), ("--runz", "--runs")]
)
def test_a_misspelt_flag(refused: Refused, stream: list, flag: str, meant: str):
    refused(*stream, flag, "3", names=f"{flag}, 3 (did you mean {meant}?)")
    assert "did you mean" not in refused(*stream, "--qqqqqq", "3", names="--qqqqqq")


def test_a_misspelt_backbone(refused: Refused, stream: list):
    line = refused(*stream, "--backbone", "squeezenet9", names="did you mean ")
    near = line.rpartition("did you mean ")[2].rstrip("?").split(", ")
    assert len(near) == len(set(near)) > 1


@pytest.mark.parametrize("classes", [["dragon"], ["car", "dragon"], ["car", "car"]])
def test_classes(refused: Refused, stream: list, classes: list[str]):
    refused(*stream, "--classes", *classes, names=("--classes", classes[-1]))


# Numbers.


@pytest.mark.parametrize("flag", INTEGERS)
def test_whole_numbers(refused: Refused, stream: list, flag: str):
    for value in ("-1", *["0"][: INTEGERS[flag]], "nan", "abc", "1.5"):
        refused(*stream, flag, value, names=(flag, value))


@pytest.mark.parametrize("flag", NUMBERS)
def test_numbers(refused: Refused, stream: list, flag: str):
    for value in ("-1", *NUMBERS[flag], "nan", "inf", "abc"):
        refused(*stream, flag, value, names=(flag, value))


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--first-run", "4294967296"], "--first-run 4294967296"),
        (["--first-run", "4294967295", "--runs", "2"], "--first-run 4294967295"),
        (["--top-k", "5"], "--top-k"),
        (["--top-k", "1", "3", "3"], "--top-k"),
        (["--codebook-loss", "0"], "--codebook-loss 0"),
        (["--block-length", "7"], "--block-length 7: does not divide the 48 channels"),
        (["--memory-size", "1"], "--memory-size 1"),
        (["--memory-size", "1", "--storage", "image"], "--memory-size 1"),
        (["--memory-bytes", "10"], "--memory-bytes 10"),
        (["--memory-bytes", "599"], "--memory-bytes 599"),
        (["--memory-bytes", "10", "--storage", "raw_feature"], "--memory-bytes 10"),
        (["--memory-size", "10", "--memory-bytes", "9000"], "--memory-size"),
        (["--select-best-epoch", "--validation-share", "0.0001"], "--validation-share 0.0001"),
        (["--select-best-epoch", "--validation-share", "0.9999"], "--validation-share 0.9999"),
        (["--dropout", "0.5"], "--dropout 0.5"),
    ],
)
def test_settings_that_cannot_be(refused: Refused, stream: list, flags: list[str], names: str):
    refused(*stream, *flags, names=names)


@pytest.mark.parametrize("flag", ["--run", "--epochs", "--batch-size", "--workers"])
def test_numbers_of_pretraining(refused: Refused, words: list[str], output: Path, flag: str):
    for value in ("-1", "nan"):
        refused("pretrain", *words, "--output", output, flag, value, names=flag)
    large = ["--run", "4294967296"]
    refused("pretrain", *words, "--output", output, *large, names="--run 4294967296")


@pytest.mark.parametrize("flag", ["--runs", "--first-run", "--classes-per-task"])
def test_numbers_of_tasks(refused: Refused, dataset: Dataset, output: Path, flag: str):
    for value in ("-1", "nan", *["4294967296"][: flag == "--first-run"]):
        refused("tasks", dataset.folder, "--output", output, flag, value, names=flag)


def test_numbers_of_the_demo(refused: Refused, output: Path):
    refused("demo", output, "--runs", "0", names="--runs 0")
    refused("demo", output, "--memory-size", "-5", names="--memory-size -5")


# Clips.


@pytest.fixture
def tree(clips: Path, tmp_path: Path) -> Path:
    """A tree of one object."""
    folder = "households/bed_01_pivothead"
    shutil.copytree(clips / folder, tmp_path / "tree" / folder)
    return tmp_path / "tree"


@pytest.fixture
def first_clip(tree: Path) -> Path:
    """The clip that is decoded first."""
    return min(tree.rglob("*.mp4"))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("These are not the frames you are looking for.\n" * 100)


def noise_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(range(250)) * 12
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [half, empty, text])
def test_broken_clip(
    refused: Refused, tree: Path, first_clip: Path, output: Path, damage: Callable
):
    damage(first_clip)
    refused("index", "toybox", tree, "--output", output, "--workers", "1", names=str(first_clip))


def shorten(path: Path) -> None:
    """Leave a clip three of its frames."""
    whole = path.rename(path.with_suffix(".whole"))
    with av.open(str(whole)) as given, av.open(str(path), "w") as made:
        target = made.add_stream_from_template(given.streams.video[0])
        for packet in itertools.islice(given.demux(given.streams.video[0]), 3):
            packet.stream = target
            made.mux(packet)
    whole.unlink()


@pytest.mark.parametrize(
    ("damage", "problem"), [(noise_in_the_middle, "decoded"), (shorten, "has 3 frames")]
)
def test_a_clip_that_is_found_unusable_late(
    capsys, tree: Path, first_clip: Path, output: Path, damage: Callable, problem: str
):
    damage(first_clip)
    assert main(["index", "toybox", str(tree), "--output", str(output), "--workers", "1"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert problem in line
    assert first_clip.stem in line
    # Frames are kept for the next call, but there is no data set.
    assert {path.name for path in output.iterdir()} <= {"images", "frames.json"}


def no_folders(tree: Path) -> None:
    shutil.rmtree(tree / "households")


def strange_folder(tree: Path) -> None:
    (tree / "households" / "bed").mkdir()


def strange_category(tree: Path) -> None:
    (tree / "households").rename(tree / "furniture")


def strange_session(tree: Path) -> None:
    clip = min(tree.rglob("*.mp4"))
    clip.rename(clip.with_name("bed_01_pivothead_upsidedown.mp4"))


@pytest.mark.parametrize("change", [no_folders, strange_folder, strange_category, strange_session])
def test_wrong_layout(refused: Refused, tree: Path, output: Path, change: Callable):
    change(tree)
    refused("index", "toybox", tree, "--output", output, names=str(tree))


def test_an_output_in_the_way_of_the_clips(refused: Refused, tree: Path, monkeypatch):
    for output in (tree, tree / "set", tree.parent):
        words = ["index", "toybox", tree, "--output", output]
        refused(*words, names=(f"--output {output}", str(tree)), at=tree.parent)
    monkeypatch.chdir(tree.parent)
    refused("index", "toybox", "tree", "--output", "tree/../tree/set", names="--output", at=tree)
    (tree.parent / "toybox-data").symlink_to(tree)
    refused("index", "toybox", "tree", names="--output toybox-data", at=tree)


def test_no_tree(refused: Refused, tmp_path: Path, output: Path):
    refused("index", "toybox", tmp_path / "gone", "--output", output, names="gone")
    (tmp_path / "file").touch()
    refused("index", "toybox", tmp_path / "file", "--output", output, names="file")
    refused("index", "imagenet", tmp_path, "--output", output, names="imagenet")


# The data set.


def test_no_dataset(refused: Refused, network_words: list[str], tmp_path: Path, output: Path):
    for command in ("stream", "pretrain"):
        words = [command, tmp_path / "gone", *network_words, "--output", output]
        refused(*words, names=str(tmp_path / "gone"))
    refused("tasks", tmp_path / "gone", "--output", output, names=str(tmp_path / "gone"))
    refused("data", "stats", tmp_path / "gone", names=str(tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    refused("data", "stats", tmp_path / "empty", names="dataset.json")


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(change((folder / name).read_text()))


def drop_column(text: str) -> str:
    table = [row[:3] + row[4:] for row in csv.reader(io.StringIO(text))]
    return "".join(",".join(row) + "\n" for row in table)


INDEX = "toybox_dirmap.csv"


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (edit("dataset.json", lambda text: text[:50]), "dataset.json"),
        (edit("dataset.json", lambda text: ""), "dataset.json"),
        (edit("dataset.json", lambda text: "[]"), "dataset.json"),
        (edit("dataset.json", lambda text: text.replace('"version": 1', '"version": 2')), "2"),
        (edit("dataset.json", lambda text: text.replace("crumb-dataset", "x")), "dataset.json"),
        (edit("dataset.json", lambda text: text.replace("test_sessions", "x")), "test_sessions"),
        (lambda folder: (folder / INDEX).unlink(), INDEX),
        (edit(INDEX, lambda text: ""), INDEX),
        (edit(INDEX, drop_column), "session"),
        (edit(INDEX, lambda text: text.replace(",6,", ",six,", 1)), INDEX),
        (edit(INDEX, lambda text: text.replace("animals/", "/animals/", 1)), INDEX),
        (edit(INDEX, lambda text: text.replace("animals/", "../animals/", 1)), INDEX),
        (edit("dataset.json", lambda text: text.replace("3,", "33,", 1)), "person"),
    ],
)
def test_broken_dataset(
    refused: Refused,
    dataset_copy: Path,
    network_words: list[str],
    output: Path,
    damage: Callable,
    names: str,
):
    before = {path: path.read_bytes() for path in dataset_copy.glob("*.*")}
    damage(dataset_copy)
    if names == "person":
        # Session 3 is no test session any more, and the others are those of other classes.
        keep_sessions_of_one_class(dataset_copy)
    assert {path: path.read_bytes() for path in dataset_copy.glob("*.*")} != before
    refused("stream", dataset_copy, *network_words, "--output", output, names=names)


def keep_sessions_of_one_class(folder: Path) -> None:
    """Leave the class "person" no test image."""
    path = folder / INDEX
    kept = [
        line
        for line in path.read_text().splitlines(keepends=True)
        if "person" not in line or "_rxplus_" in line or "_tx_" in line
    ]
    path.write_text("".join(kept))


@pytest.mark.parametrize("cache", ["4000000000", "0"])
def test_missing_image(
    refused: Refused, dataset_copy: Path, network_words: list[str], output: Path, cache: str
):
    image = max(dataset_copy.rglob("*.png"))
    image.unlink()
    words = [dataset_copy, *network_words, "--output", output, "--feature-cache-bytes", cache]
    for command in ("stream", "pretrain"):
        refused(command, *words, names=image.name)


@pytest.mark.parametrize(
    ("damage", "cache"), [(half, "1000000"), (empty, "1000000"), (text, "1000000"), (half, "0")]
)
def test_damaged_image(
    refused: Refused,
    dataset: Dataset,
    dataset_copy: Path,
    network_words: list[str],
    output: Path,
    damage: Callable,
    cache: str,
):
    image = dataset_copy / "images" / lay_out(dataset, "class_instance", 0).tasks[0].paths[0]
    damage(image)
    words = [dataset_copy, *network_words, "--output", output, "--epochs-first-task", "1"]
    refused("stream", *words, "--feature-cache-bytes", cache, names=image.name)


def test_an_image_found_damaged_in_a_later_task(
    dataset: Dataset, dataset_copy: Path, network_words: list[str], output: Path, capsys
):
    """Without a cache it is found only when it is needed; what was learned before is kept."""
    image = dataset_copy / "images" / lay_out(dataset, "class_instance", 0).tasks[1].paths[0]
    content = image.read_bytes()
    half(image)
    words = [str(dataset_copy), *network_words, "--epochs-first-task", "1"]
    assert main(["stream", *words, "--feature-cache", "off", "--output", str(output)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert image.name in line
    assert list((output / "checkpoints").iterdir())
    image.write_bytes(content)
    assert main(["stream", "--resume", str(output)]) == 0
    assert capsys.readouterr().err == (
        "run 0 goes on from run0_000000.safetensors: task 2 of 2, epoch 1, first batch\n"
    )


# File lists.


@pytest.fixture
def lists(dataset: Dataset, tmp_path: Path) -> Path:
    write_task_list(lay_out(dataset, "class_instance", 0), tmp_path / "lists")
    return tmp_path / "lists"


def listed(lists: Path, name: str, change: Callable[[list[str]], list[str]]) -> None:
    path = lists / "class_instance" / "run0" / "stream" / name
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


FIRST, TEST = "train_task_00_filelist.txt", "test_filelist.txt"


@pytest.mark.parametrize(
    ("name", "change", "names"),
    [
        (TEST, lambda rows: [*rows, rows[0].split()[0] + " 4"], TEST),
        (FIRST, lambda rows: [*rows, rows[0].split()[0] + " 9"], FIRST),
        (FIRST, lambda rows: ["../images/" + rows[0], *rows[1:]], f"{FIRST}, line 1"),
        (FIRST, lambda rows: ["/etc/hostname 0", *rows], f"{FIRST}, line 1"),
        (FIRST, lambda rows: ["no_such.png 0", *rows], "no_such.png"),
        (FIRST, lambda rows: [rows[0] + "x", *rows[1:]], f"{FIRST}, line 1"),
        (FIRST, lambda rows: [rows[0].split()[0] + " -1", *rows[1:]], f"{FIRST}, line 1"),
        (FIRST, lambda rows: [rows[0].split()[0], *rows[1:]], f"{FIRST}, line 1"),
        (FIRST, lambda rows: [], FIRST),
        (TEST, lambda rows: [], TEST),
        (TEST, lambda rows: [row for row in rows if not row.endswith(" 1")], "no test image"),
    ],
)
def test_bad_lists(
    refused: Refused, stream: list, lists: Path, name: str, change: Callable, names: str
):
    listed(lists, name, change)
    refused(*stream, "--filelists", lists, names=names)


def test_a_link_out_of_the_dataset(
    refused: Refused, dataset_copy: Path, network_words: list[str], lists: Path, output: Path
):
    secret = dataset_copy.parent / "secret.png"
    image = max(dataset_copy.rglob("*.png"))
    image.rename(secret)
    image.symlink_to(secret)
    words = [dataset_copy, *network_words, "--output", output, "--filelists", lists]
    refused("stream", *words, names=(image.name, "leads out of"))


def test_lists_of_other_classes(refused: Refused, stream: list, lists: Path):
    refused(*stream, "--filelists", lists, "--classes", "car", "bed", names=str(lists))


def test_lists_that_mix_up_classes(refused: Refused, stream: list, dataset: Dataset, lists: Path):
    """Two classes with one label; one class with two."""
    tasks = lay_out(dataset, "class_instance", 0, layout=TaskLayout(classes_per_task=4))
    write_task_list(tasks, lists)
    for name in (FIRST, TEST):
        listed(lists, name, lambda rows: [row.replace(" 3", " 2") for row in rows])
    refused(*stream, "--filelists", lists, names=(str(lists), "label 2"))
    write_task_list(tasks, lists)
    for name, session in ((FIRST, "_tx_"), (TEST, "_tz_")):
        listed(
            lists,
            name,
            lambda rows, session=session: [
                row.replace(" 0", " 4") if session in row else row for row in rows
            ],
        )
    refused(*stream, "--filelists", lists, names=(str(lists), "the labels 0 and 4"))


def test_no_lists(refused: Refused, stream: list, lists: Path):
    refused(*stream, "--filelists", lists / "gone", names="gone")
    refused(*stream, "--filelists", lists, "--first-run", "5", names="run5")
    refused(*stream, "--filelists", lists, "--protocol", "iid", names="iid")


# Networks and weights.


@pytest.mark.parametrize("cut", ["blocks.9", "nowhere", "classifier", "conv"])
def test_cut(refused: Refused, stream: list, cut: str):
    refused(*stream, "--cut", cut, names=f"--cut {cut}")


def test_cut_inside_a_residual_block(refused: Refused, dataset: Dataset, output: Path):
    words = ["--backbone", "test_resnet", "--weights", "random", "--cut", "layer2.0.conv2"]
    line = refused("stream", dataset.folder, *words, "--output", output, names="--cut layer2.0")
    assert "tensors cross the cut" in line


def test_no_cut(refused: Refused, dataset: Dataset, output: Path):
    words = ["--backbone", "test_resnet", "--weights", "random", "--output", output]
    refused("stream", dataset.folder, *words, names=("--backbone test_resnet", "--cut"))


class Code:
    """Unpickling it would make a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def write_code(path: Path) -> None:
    torch.save({"conv_stem.weight": Code(path.with_suffix(".run"))}, path)


def write_bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Code(path.with_suffix(".run"))))


def write_truncated(path: Path) -> None:
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)
    half(path)


def write_other_network(path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), path)


def write_number(path: Path) -> None:
    torch.save(3, path)


@pytest.mark.parametrize(
    "write",
    [
        text,
        empty,
        write_truncated,
        write_other_network,
        write_number,
        write_code,
        write_bare_pickle,
        Path.mkdir,
        lambda path: None,
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_weights(
    refused: Refused, dataset: Dataset, tmp_path: Path, output: Path, write: Callable, name: str
):
    write(tmp_path / name)
    words = ["--backbone", "test_efficientnet", "--cut", "blocks.4", "--output", output]
    refused("stream", dataset.folder, *words, "--weights", tmp_path / name, names=name)
    assert not (tmp_path / "w.run").exists()


# Pretrained learners.


def learner_file(path: Path, method: str = "crumb", cut: str = "blocks.4", **config) -> Path:
    learner = crumb.create(
        method, backbone="test_efficientnet", cut=cut, weights="random", **config
    )
    learner.save(path)
    return path


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"cut": "blocks.3"}, "has cut blocks.3, this run blocks.4"),
        ({"block_length": 8}, "(256, 8), this run needs (256, 16)"),
        ({"blocks": 64}, "(64, 16), this run needs (256, 16)"),
        ({"method": "finetune"}, "no codebook"),
    ],
)
def test_pretrained_of_another_kind(
    refused: Refused, stream: list, tmp_path: Path, config: dict, names: str
):
    path = learner_file(tmp_path / "other.safetensors", **config)
    refused(*stream, "--pretrained", path, names=(str(path), names))


def test_pretrained_of_another_backbone(refused: Refused, stream: list, tmp_path: Path):
    path = tmp_path / "other.safetensors"
    crumb.create(backbone="test_resnet", cut="layer4", weights="random").save(path)
    refused(*stream, "--pretrained", path, names=(str(path), "has backbone test_resnet"))


def test_pretrained_of_another_sort_of_file(
    refused: Refused, stream: list, tmp_path: Path, weights: Path
):
    refused(*stream, "--pretrained", weights, names=(str(weights), "is not a learner file"))
    refused(*stream, "--pretrained", tmp_path / "gone", names=str(tmp_path / "gone"))
    refused(*stream, "--pretrained", tmp_path, names=str(tmp_path))
    for damage in (text, empty):
        path = tmp_path / "bad.safetensors"
        damage(path)
        refused(*stream, "--pretrained", path, names=str(path))
    half(learner_file(path))
    refused(*stream, "--pretrained", path, names=str(path))


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"crumb-learner": '{"version": 2}'}, "has format version 2"),
        ({"crumb-learner": "{"}, "is damaged"),
        ({"crumb-learner": "{}"}, "is damaged"),
        ({"crumb-learner": "[]"}, "is damaged"),
        ({"crumb-learner": '{"version": 1, "network": 3}'}, "is damaged"),
    ],
)
def test_pretrained_with_a_bad_description(
    refused: Refused, stream: list, tmp_path: Path, meta: dict, names: str
):
    path = learner_file(tmp_path / "bad.safetensors")
    header = {"crumb-learner": "{}"}
    save_file(load_file(path), path, metadata=header | meta)
    refused(*stream, "--pretrained", path, names=(str(path), names))


@pytest.mark.parametrize("change", ["missing", "of another shape"])
def test_pretrained_with_a_tensor(refused: Refused, stream: list, tmp_path: Path, change: str):
    from safetensors import safe_open

    path = learner_file(tmp_path / "bad.safetensors")
    with safe_open(path, "pt") as file:
        meta = file.metadata()
    tensors = load_file(path)
    name = next(name for name in tensors if name.startswith("network.tail.") and "conv" in name)
    tensor = tensors.pop(name)
    save_file(tensors | ({name: tensor[:1]} if change != "missing" else {}), path, metadata=meta)
    refused(*stream, "--pretrained", path, names=(str(path), "lacks tensors"))


# Losses.


def test_a_loss_that_is_not_finite(refused: Refused, stream: list):
    words = ["--lr", "1e30", "--epochs-first-task", "1"]
    line = refused(*stream, *words, names="--lr: task 0, epoch 0, batch 1 (")
    assert ".png" in line


def test_finished_runs_survive_a_later_loss(
    capsys, stream: list, output: Path, monkeypatch: pytest.MonkeyPatch
):
    def learn(self, batch):
        losses = healthy(self, batch)
        return {"direct": losses["direct"] / (0 if self.seed == 1 else 1)}

    words = [str(word) for word in stream] + ["--method", "finetune", "--epochs-first-task", "1"]
    healthy = Finetune.learn
    monkeypatch.setattr(Finetune, "learn", learn)
    assert main([*words]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in output.rglob("*0.*")}
    assert before
    assert main([*words, "--runs", "2", "--resume", str(output)]) == 2
    assert "task 0, epoch 0, batch 0" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in output.rglob("*0.*")} == before
    # Also of the same call.
    shutil.rmtree(output)
    assert main([*words, "--runs", "2"]) == 2
    assert [path.name for path in (output / "runs").iterdir()] == ["run0.json"]
    monkeypatch.undo()
    assert main([*words, "--runs", "2", "--resume", str(output)]) == 0
    assert len((output / "top1_test_all_direct_all_runs.csv").read_text().splitlines()) == 2


# The output folder.


@pytest.mark.parametrize("command", ["stream", "pretrain"])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_output_that_cannot_be_a_folder(
    refused: Refused, words: list[str], tmp_path: Path, command: str, below: str
):
    file = tmp_path / "file"
    file.write_text("mine")
    target = file / below if below else file
    refused(command, *words, "--output", target, names=str(file), at=file)


def test_output_of_tasks_and_clips(refused: Refused, dataset: Dataset, tree: Path, tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("mine")
    refused("tasks", dataset.folder, "--output", file / "x", names=str(file), at=file)
    words = ["--workers", "1", "--output", file / "x"]
    refused("index", "toybox", tree, *words, names=str(file), at=file)


USUAL = ["--method", "finetune", "--epochs-first-task", "1"]


@pytest.fixture(scope="module")
def one_run(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of one run, of a method that is quick."""
    folder = tmp_path_factory.mktemp("finished") / "results"
    assert main(["stream", *words, *USUAL, "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def finished(one_run: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy of it where results would go."""
    capsys.readouterr()
    return shutil.copytree(one_run, output)


def test_output_with_results(refused: Refused, stream: list, words: list[str], finished: Path):
    refused(*stream, "--method", "finetune", names=(str(finished), "--resume"))
    refused("pretrain", *words, "--output", finished, names=str(finished))


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--lr", "0.5"], "method.lr = 0.02, not 0.5"),
        (["--batch-size", "3"], "stream.batch_size"),
        (["--protocol", "iid"], "stream.protocol"),
        (["--classes", "car", "bed"], "stream.classes"),
        (["--method", "offline"], "stream.method"),
        (["--select-best-epoch"], "stream.evaluation.select_best_epoch"),
    ],
)
def test_resume_with_other_settings(
    refused: Refused, stream: list, finished: Path, flags: list[str], key: str
):
    refused(*stream, *USUAL, "--resume", str(finished), *flags, names=(str(finished), key))


@pytest.mark.parametrize("damage", [half, empty, text, lambda path: path.write_text("{}")])
def test_resume_with_a_damaged_run(
    refused: Refused, stream: list, finished: Path, damage: Callable
):
    path = finished / "runs" / "run0.json"
    damage(path)
    refused(
        *stream, *USUAL, "--runs", "2", "--resume", str(finished), names=(str(path), "remove it")
    )


def test_a_damaged_run_that_is_removed_is_done_again(stream: list, finished: Path, one_run: Path):
    (finished / "runs" / "run0.json").unlink()
    assert main([*map(str, stream), *USUAL, "--resume", str(finished)]) == 0
    for path in one_run.rglob("*_run*.csv"):
        assert path.read_bytes() == (finished / path.relative_to(one_run)).read_bytes()


def test_resume_with_damaged_settings(refused: Refused, stream: list, finished: Path):
    # Cut within a line: where a cut at half falls depends on the length of the paths in it.
    settings = finished / "config.toml"
    settings.write_text(settings.read_text().rpartition("=")[0])
    refused(*stream, *USUAL, "--resume", str(finished), names="config.toml")
