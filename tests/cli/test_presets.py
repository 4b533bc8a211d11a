"""Presets: they parse, they hold the published numbers, and wrong ones are refused in one line."""

import csv
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tools import make_presets

from crumb.cli import pretrain, stream
from crumb.cli.flags import HelpAsked
from crumb.cli.main import main
from crumb.cli.parsing import Preset, preset_names, read_preset
from crumb.cli.pretrain import PretrainConfig
from crumb.errors import InputError
from crumb.methods.crumb import CrumbConfig
from crumb.methods.registry import methods
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig

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
# Methods with settings for every data set, and with settings for some.
EVERYWHERE = ("l2", "ewc", "si", "mas", "gem", "icarl", "er", "remind")
SOMEWHERE = {
    "lwf": ("cifar100", "core50", "ilab2mlight", "toybox"),
    "stable_sgd": ("cifar100", "toybox"),
    "agem": ("cifar100",),
    "bic": ("cifar100", "ilab2mlight"),
    "gss": ("core50", "ilab2mlight"),
    "cope": ("imagenet",),
    "rainbow": ("cifar100", "core50", "ilab2mlight", "toybox"),
    "aanets": ("cifar100", "core50"),
}
RIVALS = {*EVERYWHERE, *SOMEWHERE}
# What the original calls LwF has the losses of LwF-MC.
RUNS = {"lwf": "lwf_mc"}
NAMES = preset_names()
PRESETS = Path(str(files("crumb") / "presets"))

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
    wanted = {f"{dataset}/{method}" for dataset in DATASETS for method in EVERYWHERE}
    wanted |= {f"{dataset}/{method}" for method, sets in SOMEWHERE.items() for dataset in sets}
    wanted |= {"toybox/gss_class_iid", "toybox/gss_class_instance"}
    assert {*STREAMS, *PRETRAINING, *wanted} <= set(NAMES)
    rest = set(NAMES) - {*STREAMS, *PRETRAINING, *wanted}
    endings = ("_unlimited_memory", "_block_length_32", "_random_codebook")
    assert all("/ablation/" in name or name.endswith(endings) for name in rest)


def test_every_preset_resolves():
    for name in NAMES:
        resolves(name)


def resolves(name: str) -> None:
    sections = read_preset(name)
    preset = Preset(name, sections)
    network = NetworkConfig()
    if name.startswith("pretrain/"):
        pretraining = PretrainConfig(Path("data"))
        method = CrumbConfig(direct_loss=1.0)
        filled = preset.fill({"pretrain": pretraining, "network": network, "method": method})
        assert filled["pretrain"].batch_size == sections["pretrain"]["batch_size"], name
        return
    assert sections.keys() == {"about", "stream", "network", "method"}, name
    numbers = {"method", "batch_size", "epochs_first_task", "epochs", "layout"}
    assert sections["stream"].keys() - {"protocol"} == numbers, name
    method = sections["stream"]["method"]
    assert method in {*METHODS, *(RUNS.get(rival, rival) for rival in RIVALS)}, name
    kind = methods()[method]
    config = StreamConfig(Path("data"))
    filled = preset.fill({"stream": config, "network": network, "method": kind.Config()})
    assert filled["stream"].method == method, name
    assert filled["method"].lr == sections["method"]["lr"], name


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


def test_every_preset_says_where_it_comes_from():
    for name in NAMES:
        about = read_preset(name)["about"]
        assert about.keys() == {"source", "paper", "note"}, name
        for source in about["source"].split(", "):
            assert source.startswith(("scripts/", "other_models/")), name
            assert source.endswith((".sh", ".py")), name
        assert about["note"].strip().endswith("."), name
        assert max(map(len, about["note"].splitlines())) <= 96, name


# Batch, epochs of the first task, learning rate, and one figure of the method.
RIVALS_NUMBERS = {
    "core50/ewc": (21, 10, 0.0001, {"regularisation": 100}),
    "toybox/ewc": (21, 1, 0.0001, {"regularisation": 100}),
    "imagenet/l2": (128, 20, 0.001, {"regularisation": 100}),
    "core50/si": (21, 10, 0.0001, {"regularisation": 0.01, "trained_outputs": "all"}),
    "imagenet/si": (128, 20, 0.001, {"regularisation": 100}),
    "core50/mas": (21, 10, 0.001, {"regularisation": 1}),
    "toybox/mas": (21, 1, 0.0001, {"regularisation": 1}),
    "icubworldtransf/gem": (21, 10, 0.0001, {"margin": 1, "memory_size": 30}),
    "imagenet/icarl": (128, 10, 0.0001, {"memory_size": 10_000}),
    "cifar100/agem": (21, 10, 0.0001, {"memory_size": 1200}),
    "core50/er": (21, 10, 0.0001, {"memory_size": 1200}),
    "toybox/lwf": (128, 10, 0.02, {"weight_decay": 0.00001}),
    "cifar100/stable_sgd": (64, 25, 0.15, {"momentum": 0.8, "gamma": 0.99, "lr_floor": 0.00005}),
    "core50/gss": (10, 10, 0.001, {"momentum": 0, "n_iter": 10, "memory_size": 1000}),
    "ilab2mlight/bic": (128, 15, 0.0001, {"temperature": 5, "bias_lr": 0.001}),
    "core50/aanets": (100, 30, 0.1, {"fusion_lr": 1e-8, "distillation": 0.25}),
    "core50/rainbow": (64, 15, 0.004, {"memory_size": 400, "memory_only_epochs": 5}),
    "imagenet/cope": (10, 10, 0.001, {"prototype_momentum": 0.99, "storage": "none"}),
    "imagenet/remind": (128, 100, 0.001, {"base_lr": 0.0005, "memory_size": 278_246}),
    "core50/remind": (21, 10, 0.001, {"pq_codebooks": 32, "memory_size": 417}),
}


@pytest.mark.parametrize("name", RIVALS_NUMBERS)
def test_numbers_of_rivals_are_the_published_ones(name):
    batch, epochs, lr, more = RIVALS_NUMBERS[name]
    sections = read_preset(name)
    settings = sections["method"]
    assert (sections["stream"]["batch_size"], sections["stream"]["epochs_first_task"]) == (
        batch,
        epochs,
    )
    method = name.partition("/")[2]
    assert sections["stream"]["method"] == RUNS.get(method, method)
    assert settings["lr"] == lr
    assert {key: settings[key] for key in more} == more


def test_a_protocol_is_set_where_there_is_no_other():
    assert streaming("cifar100/crumb")[0].protocol == "class_iid"
    assert streaming("cifar100/crumb", "--protocol", "iid")[0].protocol == "iid"
    assert streaming("core50/crumb")[0].protocol == "class_instance"
    assert streaming("core50/crumb", "--protocol", "class_iid")[0].protocol == "class_iid"
    steps = {"class_iid": 1, "class_instance": 10}
    for protocol, count in steps.items():
        sections = read_preset(f"toybox/gss_{protocol}")
        assert (sections["stream"]["protocol"], sections["method"]["n_iter"]) == (protocol, count)


def test_variants_of_crumb():
    def variant(name: str) -> tuple[Any, Any]:
        _, network, method = streaming(f"core50/ablation/{name}")
        return network, method

    _, usual = variant("unablated")
    assert (usual.memory_size, usual.block_length, usual.replay_times) == (200, 8, 1)
    assert variant("pt_no_replay")[1].replay_times == 0
    assert variant("pt_half_mem_cap")[1].memory_size == 100
    assert variant("no_pt_image_replay")[1].storage == "image"
    assert variant("no_pt_merec")[1].memory_size is None
    assert variant("pt_cutlayer_3")[0].cut == "features.3"
    network, method = variant("pt_MobileNet")
    assert (network.backbone, method.memory_size) == ("mobilenet_v2", 1430)
    _, method = variant("pt_direct_loss_only")
    assert (method.codebook_loss, method.direct_loss) == (0, 1)
    assert streaming("core50/crumb_block_length_32")[2].block_length == 32


def test_variants_of_pretraining():
    def variant(name: str) -> Any:
        return pretrain.settings(["data", "--preset", f"pretrain/ablation/{name}"])[2]

    assert variant("imagenet_unablated").block_length == 8
    assert variant("imagenet_2_codebook_rows").blocks == 2
    assert variant("imagenet_uniform").initialiser == "random_uniform"
    assert variant("imagenet_no_direct_loss").direct_loss == 0
    assert variant("imagenet_vanilla").codebook_loss == 0


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
    # Left open, the mode decides: at the end of each task in the paper's.
    assert (method.storage, method.write_policy) == ("feature", None)


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
        ("[stream]\nclasses = [1]", "stream.classes", "give a list, each a text in quotes"),
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
    with pytest.raises(HelpAsked) as asked:
        call(["--help"])
    assert {"preset", "resume"} <= {flag.name for flag in asked.value.flags}


# The command.


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["presets", *words]) == 0
    return capsys.readouterr().out


def test_all_are_listed_by_data_set(capsys):
    overview = printed(capsys)
    assert overview == printed(capsys, "list")
    # Short enough to be read.
    assert len(overview.splitlines()) < 60
    for dataset in DATASETS:
        assert f"\n{dataset}/\n" in f"\n{overview}"
    assert " crumb," in overview
    for method in RIVALS - {"gss", "aanets"}:
        assert f" {method}," in overview
    assert "(15 variants of crumb)" in " ".join(overview.split())


def test_the_list_of_a_data_set_and_of_a_method(capsys):
    listed = printed(capsys, "list", "core50")
    assert "core50/crumb " in listed
    assert "optimal_core50/EWC.sh" in listed
    assert "ilab2mlight" not in listed
    assert "core50/ablation/" not in listed.replace("crumb presets list core50/ablation", "")
    assert "and 15 variants of crumb: crumb presets list core50/ablation" in listed
    assert printed(capsys, "list", "core50/ablation").count("core50/ablation/") == 15
    listed = printed(capsys, "list", "finetune")
    assert [name for name in STREAMS if name in listed] == [
        f"{dataset}/finetune" for dataset in DATASETS
    ]
    assert "*" not in listed
    assert "core50/ablation/pt_half_mem_cap" in printed(capsys, "list", "half")


@pytest.mark.parametrize("name", ["core50/crumb", "toybox/gss_class_iid", "pretrain/imagenet"])
def test_a_preset_is_shown_as_it_is(capsys, name):
    text = (PRESETS / f"{name}.toml").read_text()
    assert printed(capsys, "show", name) == f"# {name}\n{text}"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["show", "core50/crum"], "did you mean core50/crumb, "),
        (["show", "core50/ecw"], "did you mean core50/ewc, "),
        (["show", "toybox/gss"], "did you mean toybox/gss_class_iid, toybox/gss_class_instance?"),
        (["show", "qqqqqq"], "see crumb presets list"),
        (["list", "core05"], "did you mean core50, "),
        (["list", "qqqqqq"], "see crumb presets list"),
        (["print", "core50/crumb"], "give list or show"),
        (["show"], "is missing; see crumb presets show --help"),
        (["list", "core50", "ewc"], "see crumb presets list --help"),
    ],
    ids=" ".join,
)
def test_unknown_presets_end_in_one_line(refused, words, hint):
    refused("presets", *words, names=hint)


# The program that writes them.

ROW = {
    "dataset": "core50",
    "protocol": "class_iid",
    "mode": "stream",
    "backbone": "SqueezeNet1_0",
    "lr": "0.0001",
    "optimizer": "SGD",
    "momentum": "0.9",
    "weight_decay": "0.0001",
    "batch_size": "21",
    "epochs_first_task": "10",
    "epochs_other": "1",
    "image_size": "224",
    "freeze_extractor": "no",
}
COLUMNS = (
    *("dataset", "method", "protocol", "mode", "backbone", "lr", "optimizer", "momentum"),
    *("weight_decay", "batch_size", "epochs_first_task", "epochs_other", "memory_size"),
    *("reg_coef", "replay_coef", "replay_times", "n_memory_blocks", "memory_block_length"),
    *("freeze_extractor", "image_size", "other", "source"),
)
CRUMB = {
    "method": "CRUMB",
    "lr": "0.001",
    "replay_coef": "5",
    "replay_times": "1",
    "n_memory_blocks": "256",
    "memory_block_length": "16",
    "source": "scripts/crumb_stream.sh",
}
STORED = "memory_init=random_distmatch_sparse;storage_type=feature;cut_layer=12;model_weights="
FIRST = "loaded;weights_path=crumb_imagenet_pretrain_run0/iid/runs-0/CRUMB_run0;n_runs=10"
OWN = "scripts/optimal_toybox/"
SHARED = "scripts/optimal_core50/"
GSS = "n_memories=100;n_constraints=10;memory_strength=100;runs=0+1+2+3+4+5+6+7+8+9;n_iter="
TRIAL = {
    "dataset": "toybox",
    "method": "GSS_Greedy",
    "backbone": "ResNet18 (nf=20)",
    "momentum": "",
    "weight_decay": "",
    "batch_size": "100",
    "epochs_first_task": "15",
    "memory_size": "1000",
    "image_size": "32",
    "source": "other_models/GSS/trial_toybox.sh",
}
BOTH = ("class_iid", "class_instance")
MADE_UP = [
    *({"method": "EWC", "protocol": p, "reg_coef": "100", "other": "n_runs=10"} for p in BOTH),
    # The script of the data set's own wins over the one that starts several.
    *(
        {"method": "lower_bound", "dataset": "toybox", "protocol": p, "other": "n_runs=10"}
        | {"source": SHARED + "lower_bound.sh"}
        for p in BOTH
    ),
    *(
        {"method": "lower_bound", "dataset": "toybox", "protocol": p, "epochs_first_task": "1"}
        | {"source": OWN + "lower_bound.sh"}
        | {"other": "n_runs=10;from_code_defaults=optimizer+epochs_other+epochs_first_task"}
        for p in BOTH
    ),
    # A protocol that was never laid out.
    CRUMB | {"dataset": "icubworldtransf", "memory_size": "834", "other": STORED + FIRST},
    CRUMB
    | {"dataset": "icubworldtransf", "memory_size": "834", "other": STORED + FIRST}
    | {"protocol": "class_instance"},
    # Protocols with other values, and a line that cannot work.
    TRIAL | {"epochs_first_task": "1", "other": GSS + "1;note=calls x which is not in the folder"},
    TRIAL | {"other": GSS + "1;note=inside a block"},
    TRIAL | {"other": GSS + "10", "protocol": "class_instance"},
    CRUMB
    | {"method": "CRUMB_pretrain", "dataset": "imagenet", "protocol": "iid", "batch_size": "128"}
    | {"other": STORED + "none", "source": "scripts/crumb_pretrain.sh"},
    # Rows that no preset stands for.
    CRUMB | {"method": "CRUMB[pt_freeze_memory]", "memory_size": "200", "other": STORED + FIRST},
    CRUMB
    | {"dataset": "cifar100", "protocol": "class_instance", "memory_size": "9"}
    | {"other": STORED + "loaded;note=started although no class_instance file lists are set up"},
    {"method": "LwF", "dataset": "mini_imagenet", "other": ""},
]


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            own = {"source": f"scripts/optimal_core50/{row['method']}.sh"}
            writer.writerow(ROW | own | row)
    return path


def make(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["make_presets", *map(str, words)])
    make_presets.main()


def test_presets_are_what_the_program_writes(tmp_path, monkeypatch, capsys):
    written = tmp_path / "presets"
    make(monkeypatch, table(tmp_path / "table.csv", MADE_UP), "--output", written)
    said = capsys.readouterr().out
    found = {str(path.relative_to(written)): path.read_text() for path in written.rglob("*.toml")}
    assert sorted(found) == [
        "core50/ewc.toml",
        "icubworldtransf/crumb.toml",
        "pretrain/imagenet.toml",
        "toybox/finetune.toml",
        "toybox/gss_class_iid.toml",
        "toybox/gss_class_instance.toml",
    ]
    for name, text in found.items():
        assert text == (PRESETS / name).read_text(), name
    assert "no preset for 1 rows of CRUMB[pt_freeze_memory]: freezes the codebook" in said
    assert "no preset for 1 rows of CRUMB: starts a protocol that was never laid out" in said
    assert "no preset for 1 rows of LwF: is of no data set of ours" in said
    assert "no preset for 1 rows of GSS_Greedy: starts a program that is not there" in said
    assert said.endswith(f"6 presets of {len(MADE_UP)} rows\n")


def test_other_values_make_another_preset(tmp_path, monkeypatch):
    rows = [row | {"reg_coef": "7"} if row["method"] == "EWC" else row for row in MADE_UP]
    make(monkeypatch, table(tmp_path / "table.csv", rows), "--output", tmp_path)
    assert read_preset(str(tmp_path / "core50/ewc.toml"))["method"]["regularisation"] == 7


def test_a_table_without_a_column_is_refused(tmp_path, monkeypatch, capsys):
    path = tmp_path / "table.csv"
    path.write_text("dataset,method\ncore50,EWC\n")
    with pytest.raises(SystemExit):
        make(monkeypatch, path, "--output", tmp_path)
    assert f"{path}: has no column 'protocol'" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.toml"))
