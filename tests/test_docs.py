"""Every command and every Python example in the documentation is run.

As it stands, but on clips of three seconds, with a small network instead of the large ones,
with one reading of the first task in large batches where the command does not say otherwise, and
with pictures that are not drawn to the end (tests/reports does so).
"""

from __future__ import annotations

import copy
import itertools
import re
import shlex
import shutil
import tomllib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from crumb.benchmarks import assignment
from crumb.cli.main import main
from crumb.cli.parsing import preset_names
from crumb.data import decode
from crumb.data.sets import toybox
from crumb.methods.registry import find_method, methods
from crumb.nets import backbones
from crumb.nets.config import Backbone, Preprocessing
from crumb_lite.__main__ import main as lite

ROOT = Path(__file__).parents[1]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(crumb [a-z][^`]*)`")
CLASSES = ("households/bottle", "households/lamp", "animals/person", "vehicles/car")
SESSIONS = ("rxplus", "rzplus", "tx", "tz")
NEW = "households/bed_01_pivothead/bed_01_pivothead_tx.mp4"
SECONDS, SIDE = 3, 32
FEW_STEPS = ("--epochs-first-task", "1", "--batch-size", "64")
TRAINING = ("stream", "compare", "ablate", "tune")


def blocks(page, language):
    return [body for kind, _, body in FENCE.findall(page.read_text()) if kind == language]


def commands(page):
    lines = "".join(blocks(page, "console")).splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def shorter(clip, made):
    """The first seconds of a clip, small, one frame each."""
    with av.open(str(clip)) as given, av.open(str(made), "w") as short:
        stream = short.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        pictures = given.decode(video=0)
        average = given.streams.video[0].average_rate
        assert average is not None
        rate = round(average)
        for number, picture in enumerate(itertools.islice(pictures, 0, SECONDS * rate, rate)):
            small = picture.reformat(SIDE, SIDE, "yuv420p")
            small.pts, small.time_base = number, Fraction(1)
            short.mux(stream.encode(small))
        short.mux(stream.encode())


def laid_out(clips, folder):
    """Clips as in Toybox, and the same by class."""
    for name in CLASSES:
        path = f"{name}_01_pivothead"
        shutil.copytree(clips / path, folder / "my-clips" / path)
        own = folder / "my-videos" / Path(name).name
        own.mkdir(parents=True)
        for number, session in enumerate(SESSIONS, 1):
            clip = folder / "my-clips" / path / f"{Path(path).name}_{session}.mp4"
            shutil.copy(clip, own / f"clip {number}.mp4")
    (folder / "my-videos/lamp/notes.txt").touch()
    shutil.copy(clips / NEW, folder / "bed.mp4")
    return folder


@pytest.fixture
def sample_clips(tmp_path):
    """A folder with whole clips, by class and as in Toybox."""
    return laid_out(ROOT / "src/crumb/sample/clips", tmp_path)


@pytest.fixture(scope="module")
def short_clips(tmp_path_factory):
    """Short clips, as in Toybox."""
    sample, made = ROOT / "src/crumb/sample/clips", tmp_path_factory.mktemp("short")
    folders = [sample / f"{name}_01_pivothead" for name in CLASSES]
    for clip in [sample / NEW, *(clip for folder in folders for clip in folder.glob("*.mp4"))]:
        path = made / clip.relative_to(sample)
        path.parent.mkdir(parents=True, exist_ok=True)
        shorter(clip, path)
    return made


@pytest.fixture
def workplace(short_clips, shared_features, no_pictures, tmp_path, monkeypatch):
    """Short clips, and a small network instead of the large ones."""
    monkeypatch.chdir(laid_out(short_clips, tmp_path))
    small = Backbone(
        "timm", "test_efficientnet", "blocks.4", preprocessing=Preprocessing(SIDE), block_length=8
    )
    for name in ("efficientnet_lite0", "squeezenet1_0"):
        monkeypatch.setitem(backbones.BACKBONES, name, small)
    weights = {}

    def load(model, *named):
        model.load_state_dict(weights.setdefault("", copy.deepcopy(model.state_dict())))

    monkeypatch.setattr(backbones, "load_weights", load)
    few = dict(itertools.islice(assignment.CASES.items(), 1))
    monkeypatch.setattr(assignment, "CASES", few)
    for name in ("_FRAMES", "_SHORTEST"):
        monkeypatch.setattr(toybox, name, SECONDS)
    # To start processes takes longer than to decode clips as short as these.
    monkeypatch.setattr(decode, "_pool", ThreadPoolExecutor)
    torch.set_num_threads(1)
    return tmp_path


def run(line, capsys):
    words = shlex.split(line)
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), line
        return
    if words[0] in ("git", "cd"):
        return
    if words[:3] == ["python", "-m", "crumb_lite"]:
        assert lite(words[3:]) == 0, f"{line}\n{capsys.readouterr().err}"
        return
    assert words[0] == "crumb", f"no known command: {line}"
    few = FEW_STEPS if words[1] in TRAINING else ()
    if {*few[:1], "--resume", "list"} & {*words}:
        few = ()
    code = main([*words[1:], *few])
    assert code == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_commands_run_in_the_order_of_the_page(page, workplace, capsys):
    for line in commands(page):
        run(line, capsys)


def test_what_the_guide_shows_is_what_is_printed(sample_clips, monkeypatch, capsys):
    """Of whole clips."""
    monkeypatch.chdir(sample_clips)
    guide = ROOT / "docs/guide.md"
    (line,) = [line for line in commands(guide) if "--dry-run" in line]
    run(line, capsys)
    assert capsys.readouterr().out in blocks(guide, "text")


def lines_without_numbers(text):
    """Its lines without numbers, class names and rows of figures, which depend on the network."""
    names = "|".join(["bed", *(Path(name).name for name in CLASSES)])
    lines = [line for line in text.splitlines() if not re.search(r"\S {2,}\d", line)]
    lines = [re.sub(r"\d[\d.,]*", "0", re.sub(names, "CLASS", line)) for line in lines]
    return {re.sub("-+", "-", " ".join(line.split())) for line in lines}


def test_the_tutorial_shows_what_its_commands_print(workplace, capsys):
    """The same lines with other numbers."""
    printed, compared = "", 0
    for kind, _, body in FENCE.findall((ROOT / "docs/tutorial-videos.md").read_text()):
        if kind == "bash":
            capsys.readouterr()
            for line in body.splitlines():
                run(line, capsys)
            printed = capsys.readouterr().out
        elif kind == "text" and printed:
            assert lines_without_numbers(body) <= lines_without_numbers(printed)
            compared += 1
    assert compared == 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_python_examples_run(page, workplace):
    for body in blocks(page, "python"):
        exec(compile(body, page.name, "exec"), {})


def test_the_first_example_of_the_readme_prints_what_it_shows(sample_clips, monkeypatch, capsys):
    """With the network that it names: each class is recognised in a clip that was not shown."""
    monkeypatch.chdir(sample_clips)
    readme = ROOT / "README.md"
    exec(compile(blocks(readme, "python")[0], "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed == blocks(readme, "text")[0] == "['lamp', 'car']\nperson\n"


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md"])
def test_what_is_taught_is_new_and_no_other_file_is_of_it(page, workplace, capsys):
    lines = commands(ROOT / page)
    learn = next(line for line in lines if line.startswith("crumb learn"))
    teach = next(line for line in lines if line.startswith("crumb teach"))
    run(learn, capsys)
    label, clip = shlex.split(teach)[3:]
    assert Path(clip).stem == label
    run(teach, capsys)
    assert f"taught {label} (a new class)" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_commands_named_in_passing_exist(page, capsys):
    """Their words are understood; FILE and the like stand for the reader's own."""
    for line in INLINE.findall(page.read_text()):
        words = shlex.split(line)
        # Of these the second word decides which flags there are, of others the method.
        count = 2 if words[1] in ("index", "data", "presets") else 1
        named = [word for word in words[1 : 1 + count] if not word.startswith("-")]
        if "--method" in words and (method := words[words.index("--method") + 1]) in methods():
            named += ["--method", method]
        assert main([*named, "--help-all"]) == 0, line
        flags = {word for word in words if word.startswith("--")} - {"--help", "--help-all"}
        known = capsys.readouterr().out
        assert all(flag in known for flag in flags), line
        if "--preset" in flags:
            assert words[words.index("--preset") + 1] in preset_names()


def test_the_guide_shows_settings_of_the_method():
    (settings,) = blocks(ROOT / "docs/guide.md", "toml")
    assert find_method("er").Config(**tomllib.loads(settings)).lr == 0.01


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
