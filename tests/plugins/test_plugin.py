"""A package of someone else's, installed and used: a method, a data set, a backbone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crumb import plugins
from crumb.cli.main import main
from crumb.cli.stream import settings
from crumb.data.index import Dataset
from crumb.errors import InputError
from crumb.experiments.compare import CompareConfig
from crumb.methods import registry
from crumb.methods.base import BytesHeld, Learner
from crumb.methods.registry import find_method, methods, register

HERE = Path(__file__).parent
SRC = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package is installed as pip would, from what its pyproject says."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(HERE / "package/crumb_mini", folder / "crumb_mini")
    project = tomllib.loads((HERE / "package/pyproject.toml").read_text())["project"]
    about = folder / f"crumb_mini-{project['version']}.dist-info"
    about.mkdir()
    facts = {"Metadata-Version": "2.1", "Name": project["name"], "Version": project["version"]}
    (about / "METADATA").write_text("".join(f"{key}: {facts[key]}\n" for key in facts))
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (about / "entry_points.txt").write_text("\n".join(groups))
    return folder


@pytest.fixture
def importable(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is found in this process, and forgotten after the test."""
    monkeypatch.setattr(registry, "_PLUGINS", {})
    monkeypatch.syspath_prepend(installed)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "crumb_mini"]:
        del sys.modules[name]


def test_the_package_is_used_from_python(installed: Path, tmp_path: Path):
    """In a process that has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, str(HERE / "use_plugin.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": f"{SRC}{os.pathsep}{installed}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "all of it works\n"


@pytest.mark.usefixtures("importable")
def test_commands_list_it_and_what_cannot_be_loaded(capsys):
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    assert any(line.startswith("mini ") and "smoothed" in line for line in printed.splitlines())
    assert "mini_broken of the package crumb-mini: cannot be loaded" in printed


@pytest.mark.usefixtures("importable")
def test_its_data_set_is_indexed(tmp_path: Path, capsys):
    for name in ("cup", "plate"):
        (tmp_path / "raw" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((32, 32, 3), 40 * number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "raw" / name / f"{number}.png")
    words = ["mini_set", str(tmp_path / "raw"), "--output", str(tmp_path / "data")]
    assert (main(["index", *words]), capsys.readouterr().err) == (0, "")
    assert (tmp_path / "data" / "dataset.json").exists()


@pytest.mark.usefixtures("importable")
def test_a_method_that_cannot_be_loaded_is_one_line(tmp_path: Path, capsys):
    assert main(["stream", str(tmp_path), "--method", "mini_broken"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("crumb: crumb.methods mini_broken of the package crumb-mini: ")


# Without a package.


def test_a_method_is_named_by_where_it_lies(tmp_path: Path):
    given = "examples:RunningMeans"
    config, _, _ = settings([str(tmp_path), "--method", given])
    assert config.method == given
    compared = CompareConfig(tmp_path, methods=("crumb", given, "examples:LogitReplay"))
    assert [cell.name for cell in compared.cells] == [
        given,
        "crumb_250000",
        "examples:LogitReplay_250000",
    ]
    assert find_method(given) is find_method("example_means")
    assert "example_means" not in methods()


@pytest.mark.usefixtures("shared_features", "no_pictures")
def test_such_methods_are_compared_and_found_in_the_folder_again(
    dataset: Dataset, network_words: list[str], tmp_path: Path, capsys
):
    common = [
        "--dataset",
        str(dataset.folder),
        *network_words,
        "--runs",
        "1",
        "--epochs-first-task",
        "1",
    ]
    words = ["compare", *common, "--output", str(tmp_path / "out"), "--methods"]
    assert main([*words, "examples:RunningMeans", "examples:LogitReplay"]) == 0
    assert main([*words, "ncm"]) == 0
    last = (tmp_path / "out" / "comparison.md").read_text()
    for name in ("examples:RunningMeans", "examples:LogitReplay", "ncm"):
        assert f"| {name} |" in last
    assert "250,000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("examples:Nothing", "examples:Nothing: cannot be loaded (AttributeError"),
        ("nothing.at.all:Method", "nothing.at.all:Method: cannot be loaded (ModuleNotFoundError"),
        ("examples:ArrivalConfig", "not a named method class"),
        ("crumb.methods.base:Learner", "not a named method class"),
        ("nothing", "no such method; choose one of aanets, "),
        (3, "no such method; choose one of aanets, "),
    ],
)
def test_what_is_no_method_is_one_line(name: str, line: str):
    with pytest.raises(InputError, match=r"^[^\n]+$") as caught:
        find_method(name)
    assert line in str(caught.value)


def test_register_works_at_any_time_and_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "_METHODS", {**methods()})

    def define() -> type[Learner]:
        @register
        class Late(Learner):
            """Comes late."""

            name = "late"

            def learn(self, batch):
                return {}

            def bytes_held(self):
                return BytesHeld(0, 0)

        return Late

    first, second = define(), define()
    assert first is not second
    assert find_method("late") is methods()["late"] is second
    assert [*methods()] == sorted(methods())
    with pytest.raises(InputError, match="has the name 'er' of crumb.methods.er:ExperienceReplay"):
        register(type("Other", (first,), {"name": "er"}))


def test_a_class_with_the_contract_of_an_earlier_version_is_refused():
    kind = type("Older", (find_method("er"),), {"name": "older", "reads_twice": True})
    with pytest.raises(
        InputError, match=r":Older: defines reads_twice; rename it to needs_second_pass$"
    ):
        register(kind)


@dataclass
class Package:
    """As much of a distribution as is asked of it."""

    name: str


def test_a_name_that_two_packages_have_is_refused(monkeypatch: pytest.MonkeyPatch):
    def points(group: str, name: str = "twice") -> list[EntryPoint]:
        packages = (Package("one"), Package("two"))
        one = (EntryPoint("twice", "examples:RunningMeans", group) for _ in packages)
        return [point._for(dist) for point, dist in zip(one, packages, strict=True)]  # type: ignore

    monkeypatch.setattr(plugins, "entry_points", points)
    with pytest.raises(InputError, match="twice: is an entry point of one and of two"):
        find_method("twice")
