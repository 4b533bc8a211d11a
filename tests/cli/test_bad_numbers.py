"""Numbers that cannot be: each flag that takes one, at each value that is none of its own.

The flags are read off the configurations, so a new one is tested unasked: where it may be zero or
huge, the sets below say so.
"""

import pytest
from flags import DEFINED_BY, Flag, numeric_flags

from crumb.cli.main import COMMANDS, main
from crumb.methods.registry import methods

MAY_BE_ZERO = {
    "--first-run",
    "--run",
    "--base-weight-decay",
    "--bias-steps",
    "--cutmix-probability",
    "--distillation",
    "--fusion-lr",
    "--head-dropout",
    "--convergence",
    "--crumbs",
    "--jpeg-quality",
    "--lr-floor",
    "--prior-frames",
    "--seed",
    "--margin",
    "--memory-only-epochs",
    "--mixup-alpha",
    "--prototype-momentum",
    "--regularisation",
    "--feature-cache-bytes",
    "--replay-times",
    "--replay-coefficient",
    "--codebook-loss",
    "--direct-loss",
    "--momentum",
    "--weight-decay",
    "--dropout",
}
MAY_BE_LARGE = {
    "--classes-per-task",
    "--images-per-task",
    "--clips-per-task",
    "--top-k",
    "--feature-cache-bytes",
    "--memory-size",
    "--memory-bytes",
    "--budget-bytes",
    "--fisher-samples",
    "--checkpoint-minutes",
    "--checkpoint-batches",
}
BELOW_ONE = {"--momentum", "--dropout", "--validation-share", "--unknown-share"}
NO_NUMBERS = ("nan", "abc", "")
LARGE = 10**12


def values(flag: Flag) -> list[str]:
    """What a flag must refuse."""
    refused = ["-1", *NO_NUMBERS]
    if flag.name not in MAY_BE_ZERO:
        refused.append("0")
    if flag.name in BELOW_ONE:
        refused += ["1", "1.5"]
    if flag.kind is int:
        refused += ["1.5", "inf", str(10**30)]
        large = str(LARGE)
    else:
        refused += ["inf", "1e400"]
        large = "1e39"
    return refused if flag.name in MAY_BE_LARGE else [*refused, large]


@pytest.fixture
def usual(words, network_words, dataset, output, tmp_path, monkeypatch) -> dict[str, list[object]]:
    """Further words for each command, with which it would work; but no network may be built."""
    for module in ("crumb.stream.run", "crumb.benchmarks.workplace"):
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


NUMBERLESS = {"data", "index", "methods", "presets", "report", "runs", "teach", "forget", "info"}


def test_every_command_with_numbers_is_tested():
    assert DEFINED_BY.keys() == COMMANDS.keys() - NUMBERLESS
    names = {flag.name for flag in numeric_flags()}
    assert {"--runs", "--workers", "--lr", "--images-per-task", "--top-k", "--dropout"} <= names
    assert names >= MAY_BE_ZERO | MAY_BE_LARGE | BELOW_ONE


@pytest.mark.parametrize(
    ("flag", "value"),
    [(flag, value) for flag in numeric_flags() for value in values(flag)],
    ids=str,
)
def test_no_such_number(refused, usual, flag: Flag, value: str):
    # Python prints the infinite number that it makes of one too large.
    shown = {"1e400": "inf", "1e39": "1e+39"}.get(value, value)
    given = usual[flag.command[0]]
    kind = methods().get(flag.command[-1])
    if kind is not None and not kind.trains:
        at = given.index("--lr")
        given = given[:at] + given[at + 2 :]
    refused(*flag.command, *given, flag.name, value, names=(flag.name, shown))


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
    named = {"--memory-size", "--memory-bytes", "--budget-bytes", "--fisher-samples"}
    words = ["--top-k", "1", LARGE, "--checkpoint-minutes", "1e300", "--epochs-first-task", "1"]
    for flag in sorted(MAY_BE_LARGE - named - {"--top-k", "--checkpoint-minutes"}):
        words += [flag, LARGE]
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
