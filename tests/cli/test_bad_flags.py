"""Commands and flags that cannot be used: one line, exit code 2, and nothing written."""

from collections.abc import Callable

import pytest

Refused = Callable[..., str]


@pytest.mark.parametrize("word", ["strem", "-v", "--output", ""])
def test_unknown_command(refused: Refused, word: str):
    refused(word, names="unknown command")


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "index",
        "data",
        "tasks",
        "presets",
        "pretrain",
        "stream",
        "compare",
        "ablate",
        "tune",
    ],
)
def test_unknown_flag(refused: Refused, command: str):
    refused(command, "--colour", "red", names=f"crumb {command}")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--method", "no_such_method"),
        ("--protocol", "random"),
        ("--backbone", "squeezenet9"),
        ("--preset", "core50/no_such_method"),
        ("--preset", "no_such_file.toml"),
        ("--initialiser", "sorted"),
        ("--storage", "tape"),
        ("--write-policy", "never"),
        ("--device", "cuda:7"),
        ("--device", "abacus"),
        ("--device", "cpu:1"),
    ],
)
def test_unknown_names(refused: Refused, stream: list, flag: str, value: str):
    refused(*stream, flag, value, names=(flag if flag != "--preset" else value, value))


@pytest.mark.parametrize(
    "flag", ["--method", "--preset", "--runs", "--lr", "--protocol", "--classes", "--resume"]
)
def test_a_flag_without_value(refused: Refused, words: list[str], flag: str):
    refused("stream", *words, flag, names=flag)


@pytest.mark.parametrize(
    "command", ["stream", "pretrain", "tasks", "data", "index", "compare", "ablate", "tune"]
)
def test_nothing_but_the_command(refused: Refused, command: str):
    line = refused(command, names=f"crumb {command}")
    assert "missing; see" in line
    assert "(required)" not in line


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["index", "toybox"], "ROOT is missing; see crumb index toybox --help"),
        (["data"], "the action is missing; see crumb data --help"),
    ],
)
def test_what_is_missing(refused: Refused, words: list[str], problem: str):
    refused(*words, names=f"crumb {' '.join(words)}: {problem}")


@pytest.mark.parametrize(
    ("flag", "meant"), [("--memory-sise", "--memory-size"), ("--runz", "--runs")]
)
def test_a_misspelt_flag(refused: Refused, stream: list, flag: str, meant: str):
    refused(*stream, flag, "3", names=f"{flag} (did you mean {meant}?)")


def test_a_flag_like_no_other(refused: Refused, stream: list):
    assert "did you mean" not in refused(*stream, "--qqqqqq", "3", names="--qqqqqq")


def test_a_misspelt_backbone(refused: Refused, stream: list):
    line = refused(*stream, "--backbone", "squeezenet9", names="did you mean ")
    near = line.rpartition("did you mean ")[2].rstrip("?").split(", ")
    assert len(near) == len(set(near)) > 1


@pytest.mark.parametrize("classes", [["dragon"], ["car", "dragon"], ["car", "car"]])
def test_classes(refused: Refused, stream: list, classes: list[str]):
    refused(*stream, "--classes", *classes, names=("--classes", classes[-1]))


@pytest.mark.parametrize("words", [["--classes"], ["--classes", "--runs", "2"], ["--classes="]])
@pytest.mark.parametrize("command", ["stream", "pretrain"])
def test_no_classes_are_not_all_classes(refused, stream, command: str, words: list[str]):
    refused(command, *stream[1:], *words, names="--classes")
