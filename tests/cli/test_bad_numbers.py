"""Numbers that cannot be: each setting that takes one, at each value that is none of its own.

The settings are read off the configurations, so a new one is tested unasked: where it may be zero
or huge, the sets below say so.
"""

from dataclasses import MISSING, fields
from typing import Any

import pytest
from flags import CONFIGS, DEFINED_BY, dataclasses_of, numbers_of

from crumb.cli.main import COMMANDS, main
from crumb.errors import InputError, flag_of

MAY_BE_ZERO = {
    "first_run",
    "run",
    "alpha",
    "beta",
    "diagonal_shrinkage",
    "off_diagonal_shrinkage",
    "pooled_share",
    "base_weight_decay",
    "bias_steps",
    "class_share",
    "cutmix_probability",
    "distillation",
    "fusion_lr",
    "head_dropout",
    "convergence",
    "crumbs",
    "rank",
    "jpeg_quality",
    "lr_floor",
    "prior_frames",
    "seed",
    "margin",
    "memory_only_epochs",
    "mixup_alpha",
    "prototype_momentum",
    "regularisation",
    "feature_cache_bytes",
    "replay_times",
    "replay_coefficient",
    "codebook_loss",
    "direct_loss",
    "momentum",
    "weight_decay",
    "dropout",
}
MAY_BE_LARGE = {
    "classes_per_task",
    "images_per_task",
    "clips_per_task",
    "top_k",
    "feature_cache_bytes",
    "memory_size",
    "memory_bytes",
    "budget_bytes",
    "fisher_samples",
    "checkpoint_minutes",
    "checkpoint_batches",
}
BELOW_ONE = {"class_share", "momentum", "dropout", "validation_share", "unknown_share"}
LARGE = 10**12
NAN, INFINITE = float("nan"), float("inf")
# What these hold comes from the command line alone, where the parser makes numbers of words.
PARSED = {"Analyse", "Bench", "Demo", "Learn", "Predict", "PretrainConfig", "Tasks"}


def values(config: type, name: str, kind: type) -> list[object]:
    """What a setting must refuse."""
    refused: list[object] = [-1]
    if name not in MAY_BE_ZERO:
        refused.append(0)
    if name in BELOW_ONE:
        refused += [1, 1.5]
    refused += [10**30] if kind is int else [NAN, INFINITE]
    if name not in MAY_BE_LARGE:
        refused.append(LARGE if kind is int else 1e39)
    if config.__name__ not in PARSED:
        refused += ["abc", "", *([1.5, NAN, INFINITE] if kind is int else [])]
    return refused


def named_in_refusal(config: type, name: str, value: object) -> str | None:
    """The setting that is refused, in a configuration that would otherwise do."""
    needed = {
        field.name: ("one",) if "tuple" in str(field.type) else "crumb"
        for field in fields(config)
        if field.default is MISSING and field.default_factory is MISSING
    }
    (given,) = (field for field in fields(config) if field.name == name)
    held: Any = (value,) if str(given.type).startswith("tuple") else value
    try:
        config(**needed | {name: held})
    except InputError as error:
        return error.setting
    return None


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_no_such_number(config: type):
    refusals = {
        (name, str(value)): named_in_refusal(config, name, value)
        for name, kind in numbers_of(config)
        for value in values(config, name, kind)
    }
    assert refusals == {(name, value): name for name, value in refusals}


@pytest.fixture
def usual(words, network_words, dataset, output, tmp_path, monkeypatch) -> dict[str, list[object]]:
    """Further words for each command, with which it would work; but no network may be built."""
    for module in ("crumb.stream.learner", "crumb.benchmarks.workplace"):
        monkeypatch.setattr(f"{module}.build_network", lambda *_: pytest.fail("built a network"))
    return {
        "stream": [*words, "--output", output],
        "pretrain": [*words, "--output", output],
        "tasks": [dataset.folder, "--output", output],
        "compare": ["--dataset", dataset.folder, *network_words, "--output", output],
        "ablate": ["--dataset", *words, "--output", output],
        "tune": ["--dataset", *words, "--output", output],
        "index": [tmp_path / "tree", "--output", output],
        "demo": [output],
        "learn": [tmp_path / "tree", "--output", output],
        "predict": [tmp_path / "own.crumb", "clip.mp4"],
        "bench": [],
        "analyse": [tmp_path / "learner.safetensors", "--dataset", dataset.folder],
    }


NUMBERLESS = {
    "data",
    "index",
    "methods",
    "backbones",
    "presets",
    "report",
    "pareto",
    "runs",
    "teach",
    "forget",
    "info",
    "export",
    "completion",
}
FIRST_OF_EACH = {
    words[0]: words for words, (first, *_) in reversed(DEFINED_BY.items()) if [*numbers_of(first)]
}


def test_every_command_with_numbers_is_tested():
    assert FIRST_OF_EACH.keys() == COMMANDS.keys() - NUMBERLESS | {"index"}
    names = {name for config in CONFIGS for name, _ in numbers_of(config)}
    assert {"runs", "workers", "lr", "images_per_task", "top_k", "dropout"} <= names
    assert names >= MAY_BE_ZERO | MAY_BE_LARGE | BELOW_ONE


@pytest.mark.parametrize("command", DEFINED_BY, ids=" ".join)
def test_every_number_has_a_flag(command: tuple[str, ...], capsys):
    assert main([*command, "--help-all"]) == 0
    known = capsys.readouterr().out
    configs = dataclasses_of(*DEFINED_BY[command])
    flags = {flag_of(name) for config in configs for name, _ in numbers_of(config)}
    assert {flag for flag in flags if f"{flag} " not in known} == set()


@pytest.mark.parametrize("value", ["-1", "1e400", "abc"])
@pytest.mark.parametrize("command", FIRST_OF_EACH.values(), ids=" ".join)
def test_a_command_says_which_number_it_refuses(refused, usual, command, value):
    numbers = [*numbers_of(DEFINED_BY[command][0])]
    name, kind = next((pair for pair in numbers if pair[1] is float), numbers[0])
    # Python prints the infinite number that it makes of one too large.
    shown = "inf" if value == "1e400" and kind is float else value
    refused(*command, *usual[command[0]], flag_of(name), value, names=(flag_of(name), shown))


@pytest.mark.parametrize(
    "capacity",
    [
        ["--memory-size", LARGE],
        ["--memory-bytes", LARGE],
        ["--memory-size", LARGE, "--write-policy", "on-arrival"],
        ["--budget-bytes", LARGE],
        ["--method", "ewc", "--fisher-samples", LARGE],
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_large_numbers_that_do_no_harm(stream, capacity):
    named = {"memory_size", "memory_bytes", "budget_bytes", "fisher_samples"}
    words = ["--top-k", "1", LARGE, "--checkpoint-minutes", "1e300", "--epochs-first-task", "1"]
    for name in sorted(MAY_BE_LARGE - named - {"top_k", "checkpoint_minutes"}):
        words += [flag_of(name), LARGE]
    assert main([*map(str, [*stream, *words, *capacity])]) == 0


@pytest.mark.parametrize("protocol", ["iid", "instance", "class_iid", "class_instance"])
def test_large_tasks_hold_everything(dataset, output, protocol):
    sizes = [f"--{what}-per-task={LARGE}" for what in ("images", "clips", "classes")]
    sizes = {"iid": sizes[:1], "instance": sizes[1:2]}.get(protocol, sizes[2:])
    words = [dataset.folder, "--output", output, "--protocol", protocol, "--runs", 1, *sizes]
    assert main(["tasks", *map(str, words)]) == 0
    assert len([*output.rglob("train_task_*")]) == 1


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--first-run", "4294967296"], "--first-run 4294967296"),
        (["--first-run", "4294967295", "--runs", "2"], "--first-run 4294967295"),
        (["--runs", "10001"], "--runs 10001: is above 10000"),
        (["--batch-size", "65537"], "--batch-size 65537: is above 65536"),
        (["--workers", "1000000"], "--workers 1000000: is above 4096"),
        (["--top-k", "5"], "--top-k"),
        (["--top-k"], "--top-k"),
        (["--top-k", "1", "3", "3"], "--top-k"),
        (["--top-k", "1", "0"], "--top-k 0"),
        (["--block-length", "7"], "--block-length 7: does not divide the 48 channels"),
        (["--memory-size", "1"], "--memory-size 1"),
        (["--memory-size", "1", "--storage", "image"], "--memory-size 1"),
        (["--memory-bytes", "10"], "--memory-bytes 10"),
        (["--memory-bytes", "599"], "--memory-bytes 599"),
        (["--memory-bytes", "10", "--storage", "raw_feature"], "--memory-bytes 10"),
        (["--select-best-epoch", "--validation-share", "0.0001"], "--validation-share 0.0001"),
        (["--select-best-epoch", "--validation-share", "0.9999"], "--validation-share 0.9999"),
        (["--dropout", "0.5"], "--dropout 0.5"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_numbers_that_do_not_fit(refused, stream, flags, names):
    refused(*stream, *flags, names=names)


@pytest.mark.parametrize(
    ("command", "flag"),
    [("pretrain", "--run"), ("tasks", "--first-run"), ("stream", "--first-run")],
)
def test_numbers_of_runs_are_seeds(refused, usual, command, flag):
    refused(command, *usual[command], flag, "4294967296", names=f"{flag} 4294967296")
