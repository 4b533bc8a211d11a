"""Presets: they parse, they hold the published numbers, and wrong ones are refused in one line."""

import contextlib
import io
from typing import Any

import pytest

from crumb.cli import pretrain, stream
from crumb.cli.parsing import preset_names, read_preset
from crumb.errors import InputError

DATASETS = (
    "cifar100",
    "core50",
    "icubworldtransf",
    "ilab2mlight",
    "ilab2mlight+core50",
    "imagenet",
    "toybox",
)
METHODS = ("crumb", "finetune", "offline")
STREAMS = [f"{dataset}/{method}" for dataset in DATASETS for method in METHODS]
PRETRAINING = ["pretrain/cifar100", "pretrain/imagenet"]

# The columns of the published settings: batch, epochs of the first and of later tasks, learning
# rate, momentum, weight decay.
STREAM_NUMBERS = {
    "core50/crumb": (21, 10, 1, 0.001, 0.9, 0.0001),
    "cifar100/crumb": (128, 10, 1, 0.001, 0.9, 0.0001),
    "imagenet/crumb": (128, 10, 1, 0.001, 0.9, 0.0001),
    "toybox/finetune": (21, 1, 1, 0.0001, 0.9, 0.0001),
    "imagenet/finetune": (128, 20, 1, 0.001, 0.9, 0.0001),
    "core50/offline": (128, 5, 5, 0.0001, 0.9, 0.0001),
    "cifar100/offline": (100, 10, 10, 0.0001, 0.9, 0.0001),
}
# Memory size of CRUMB in codes.
MEMORY_SIZES = {
    "core50": 417,
    "toybox": 417,
    "ilab2mlight": 417,
    "cifar100": 2782,
    "imagenet": 278342,
    "ilab2mlight+core50": 834,
    "icubworldtransf": 834,
}
# Classes, images and clips of a task.
LAYOUTS = {
    "core50": (2, 1200, 80),
    "toybox": (2, 6090, 406),
    "ilab2mlight": (2, 5040, 336),
    "cifar100": (5, 2500, 5),
    "imagenet": (100, None, 100),
    "ilab2mlight+core50": (2, None, None),
    "icubworldtransf": (2, None, None),
}


def streaming(name: str, *flags: str) -> tuple[Any, Any, Any]:
    return stream.settings(["data", "--preset", name, *flags])


def refusal(call: Any, *words: str) -> str:
    with pytest.raises(InputError) as error:
        call([*words])
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def own(tmp_path):
    """Writes a preset of one's own and gives its path."""

    def write(text: str) -> str:
        path = tmp_path / "own.toml"
        path.write_text(text)
        return str(path)

    return write


def test_there_is_one_for_each_data_set_and_method():
    assert preset_names() == sorted(STREAMS + PRETRAINING)


@pytest.mark.parametrize("name", STREAMS)
def test_stream_preset_parses(name):
    dataset, method = name.rsplit("/", 1)
    config, network, settings = streaming(name)
    assert config.method == method
    assert network.backbone == "squeezenet1_0"
    layout = config.layout
    sizes = (layout.classes_per_task, layout.images_per_task, layout.clips_per_task)
    assert sizes == LAYOUTS[dataset]
    if method == "crumb":
        assert settings.memory_size == MEMORY_SIZES[dataset]


@pytest.mark.parametrize(("name", "epochs"), [("cifar100", 4), ("imagenet", 10)])
def test_pretraining_preset_parses(name, epochs):
    config, network, method = pretrain.settings(["data", "--preset", f"pretrain/{name}"])
    assert (config.protocol, config.epochs_first_task, config.batch_size) == ("iid", epochs, 128)
    assert (network.backbone, method.lr, method.momentum) == ("squeezenet1_0", 0.001, 0.9)
    # Both losses in the sum, on 256 blocks.
    assert (method.codebook_loss, method.direct_loss, method.blocks) == (1, 1, 256)


@pytest.mark.parametrize("name", STREAMS + PRETRAINING)
def test_preset_says_where_it_comes_from(name):
    about = read_preset(name)["about"]
    assert about.keys() == {"source", "paper", "note"}
    assert about["source"].startswith("scripts/")
    assert about["source"].endswith(".sh")


@pytest.mark.parametrize("name", STREAM_NUMBERS)
def test_numbers_are_the_published_ones(name):
    config, _, method = streaming(name)
    assert STREAM_NUMBERS[name] == (
        config.batch_size,
        config.epochs_first_task,
        config.epochs,
        method.lr,
        method.momentum,
        method.weight_decay,
    )


@pytest.mark.parametrize("dataset", DATASETS)
def test_replay_and_codebook_are_the_published_ones(dataset):
    _, _, method = streaming(f"{dataset}/crumb")
    assert (method.replay_coefficient, method.replay_times, method.blocks) == (5, 1, 256)
    assert (method.storage, method.write_policy) == ("feature", "end-of-task")


def test_flags_win_over_the_preset_and_leave_the_rest():
    config, network, method = streaming("core50/crumb", "--batch-size", "7", "--memory-size", "9")
    assert (config.batch_size, method.memory_size) == (7, 9)
    assert (config.epochs_first_task, network.backbone) == (10, "squeezenet1_0")
    config, _, method = pretrain.settings(
        ["data", "--preset=pretrain/cifar100", "--epochs", "2", "--lr", "0.5"]
    )
    assert (config.epochs_first_task, method.lr, config.batch_size) == (2, 0.5, 128)


def test_a_preset_of_ones_own_fills_every_kind_of_value(own):
    path = own(
        """
        [stream]
        method = "finetune"
        classes = ["cup", "duck"]
        output = "there"
        [stream.evaluation]
        top_k = [1, 2]
        select_best_epoch = true
        [network]
        dropout = 0
        """
    )
    config, network, method = streaming(path)
    assert config.classes == ("cup", "duck")
    assert config.output is not None
    assert config.output.name == "there"
    assert (config.evaluation.top_k, config.evaluation.select_best_epoch) == ((1, 2), True)
    assert network.dropout == 0.0
    assert not hasattr(method, "memory_size")


def test_a_method_flag_wins_over_the_method_of_the_preset(own):
    path = own('[stream]\nmethod = "finetune"\nbatch_size = 5')
    config, _, method = streaming(path, "--method", "crumb", "--blocks", "16")
    assert (config.method, config.batch_size, method.blocks) == ("crumb", 5, 16)
    message = refusal(stream.settings, "data", "--preset", "core50/crumb", "--method", "finetune")
    assert "--preset core50/crumb, method: has an unknown key 'memory_size'" in message


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("[stream]\nbatch = 3", "stream", "unknown key 'batch'"),
        ("[stream.layout]\nclasses = 3", "stream.layout", "unknown key 'classes'"),
        ("[method]\nblock = 3", "method", "unknown key 'block'"),
        ("[training]\nlr = 1", "", "unknown section 'training'"),
        ('[stream]\nbatch_size = "3"', "stream.batch_size", "give a whole number"),
        ("[stream]\nbatch_size = 2.5", "stream.batch_size", "give a whole number"),
        ("[stream]\nbatch_size = true", "stream.batch_size", "give a whole number"),
        ('[method]\nmemory_size = "many"', "method.memory_size", "give a whole number"),
        ("[method]\nlr = [1]", "method.lr", "give a number"),
        ("[stream]\nresume = 1", "stream.resume", "give true or false"),
        ("[stream]\noutput = 1", "stream.output", "give a text in quotes"),
        ("[stream]\nclasses = [1]", "stream.classes", "give a text in quotes"),
        ('[stream]\nclasses = "cup"', "stream.classes", "give a list"),
        ('[stream]\nprotocol = "random"', "stream.protocol", "'class_instance'"),
        ('[method]\nstorage = "disk"', "method.storage", "'raw_feature'"),
        ("stream = 3", "stream", "make it a table"),
        ("[stream]\nlayout = 3", "stream.layout", "make it a table"),
        ('[stream]\nmethod = "learn"', "stream.method", "choose one of"),
        ("[stream]\nmethod = [1]", "stream.method", "choose one of"),
        ("[stream]\nbatch_size = 0", "stream", "--batch-size 0"),
        ("[method]\nlr = nan", "method", "--lr nan"),
    ],
)
def test_a_wrong_preset_is_refused_by_name_and_key(own, text, place, problem):
    path = own(text)
    message = refusal(stream.settings, "data", "--preset", path)
    assert message.startswith(f"--preset {path}, {place}:" if place else f"--preset {path}:")
    assert problem in message


@pytest.mark.parametrize("call", [stream.settings, pretrain.settings])
def test_a_preset_that_cannot_be_read_is_refused(own, tmp_path, call):
    broken = own("[network\nbackbone =")
    assert f"{broken}: is not valid TOML" in refusal(call, "data", "--preset", broken)
    missing = str(tmp_path / "missing.toml")
    assert missing in refusal(call, "data", "--preset", missing)
    message = refusal(call, "data", "--preset", "core50/crumbs")
    assert message.startswith("--preset core50/crumbs: no such preset")
    assert "core50/crumb," in message
    for words in (["--preset"], ["--preset="]):
        assert refusal(call, "data", *words).startswith("--preset: names no preset")


def test_presets_of_the_other_command_are_refused():
    message = refusal(stream.settings, "data", "--preset", "pretrain/imagenet")
    assert "--preset pretrain/imagenet: has an unknown section 'pretrain'" in message
    message = refusal(pretrain.settings, "data", "--preset", "core50/crumb")
    assert "--preset core50/crumb: has an unknown section 'stream'" in message


@pytest.mark.parametrize("call", [stream.settings, pretrain.settings])
def test_help_tells_of_presets(call):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        call(["--help"])
    assert "--preset NAME" in output.getvalue()
