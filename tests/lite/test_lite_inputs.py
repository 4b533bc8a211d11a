"""What crumb-lite reads, prints, refuses and imports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import listing
from tests.data.video_clips import seconds, write_clip
from tests.lite.conftest import arrays, taught

from crumb import portable
from crumb.cli.main import main as crumb
from crumb.data.shown import pixels_of_file
from crumb.files import read_tensors, write_tensors
from crumb.methods.exporting import export
from crumb_lite import InputError, load
from crumb_lite.__main__ import main
from crumb_lite.front import Front
from crumb_lite.pictures import frames_of

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/data/cases"
CLIPS = sorted(path for path in CASES.iterdir() if path.suffix in (".mp4", ".avi", ".ts"))
NO_VIDEO = ("song.mp4",)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder that is only read."""
    folder = tmp_path_factory.mktemp("exported") / "device"
    export(taught("slda"), folder, "the learner")
    return folder


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.name)
def test_clips_give_the_same_frames(path):
    if path.name in NO_VIDEO:
        with pytest.raises(InputError, match="no video stream|has no frames"):
            frames_of(path, (24, "crop", "bilinear"))
        return
    expected = pixels_of_file(path, 24, "crop").permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(frames_of(path, (24, "crop", "bilinear")), expected)


@pytest.fixture
def photo():
    """A picture with detail, twice as wide as high."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 60, 3), np.uint8)
    return Image.fromarray(noise).resize((400, 200), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("form", ["jpg", "png", "palette", "grey16", "turned"])
def test_images_give_the_same_pixels(photo, tmp_path, form, resize):
    path = tmp_path / ("photo.jpg" if form in ("jpg", "turned") else "photo.png")
    if form == "palette":
        photo.quantize(20, Image.Quantize.FASTOCTREE).save(path, transparency=0)
    elif form == "grey16":
        Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6 if form == "turned" else 1
        photo.save(path, exif=exif)
    expected = pixels_of_file(path, 48, resize).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(frames_of(path, (48, resize, "bilinear")), expected)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing.jpg", "no such file"),
        ("broken.jpg", "cannot be read as an image"),
        ("broken.mp4", "cannot be decoded"),
        (np.zeros((4, 4), np.uint8), "of an unknown kind"),
        (np.zeros((4, 4, 3)), "of an unknown kind"),
        (np.zeros((0, 5, 3), np.uint8), "has no pixels"),
        (np.zeros((5, 0, 3), np.uint8), "has no pixels"),
        (Image.new("F", (4, 4)), "unknown range"),
    ],
)
def test_unusable_inputs_are_refused(tmp_path, monkeypatch, what, words):
    monkeypatch.chdir(tmp_path)
    for name in ("broken.jpg", "broken.mp4"):
        Path(name).write_bytes(b"neither of them")
    with pytest.raises(InputError, match=words):
        frames_of(what, (8, "crop", "bilinear"))


def test_a_clip_without_pyav_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    clip = tmp_path / "clip.mp4"
    clip.touch()
    with pytest.raises(InputError, match=r"pip install 'crumb-lite\[video\]'"):
        frames_of(clip, (8, "crop", "bilinear"))


@pytest.mark.parametrize("name", ["", " red", "unknown", "a\nb", 3])
def test_a_name_that_cannot_be_used_teaches_nothing(exported, name):
    model = load(exported, threads=1)
    with pytest.raises(InputError, match="no usable name"):
        model.observe(arrays(0, 2), name)
    assert model.classes == ["red", "green", "blue"]
    assert model.moments.frames == 120


def test_a_clip_counts_as_one_input(exported, tmp_path):
    model = load(exported, threads=1)
    clip = tmp_path / "clip.mp4"
    write_clip(clip, seconds(4))
    frames = [*frames_of(clip, (8, "crop", "bilinear"))]
    assert len(frames) == 4
    expected = model.scores(frames).mean(0)
    np.testing.assert_allclose(model.scores(clip)[0], expected, rtol=1e-5)
    assert isinstance(model.predict(clip), str)


def test_an_empty_list_is_refused(exported):
    model = load(exported, threads=1)
    for call in (model.predict, lambda none: model.observe(none, "red")):
        with pytest.raises(InputError, match="images: are none"):
            call([])


def test_a_network_that_onnx_runtime_cannot_run_is_refused(tmp_path):
    (tmp_path / "front.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"front.onnx: cannot be run by ONNX Runtime \("):
        Front(tmp_path / "front.onnx", 1)


# The commands.


@pytest.fixture
def device(exported, tmp_path):
    """A folder that may be spoiled."""
    return shutil.copytree(exported, tmp_path / "device")


@pytest.fixture
def clip(tmp_path):
    write_clip(tmp_path / "grey.mp4", seconds(3))
    return tmp_path / "grey.mp4"


def test_the_commands_print_what_they_did(device, clip, capsys):
    folder = str(device)
    assert main(["teach", folder, "grey", str(clip)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "taught grey (a new class) from 3 frames"
    assert [line.partition(":")[0] for line in lines[1:]] == ["red", "green", "blue"]
    assert main(["predict", folder, str(clip), str(clip)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{clip}: grey ")
    assert crumb(["predict", folder, str(clip)]) == 0
    assert capsys.readouterr().out.splitlines() == lines[:1]
    assert main(["forget", folder, "red"]) == 0
    assert "classes left: green, blue, grey" in capsys.readouterr().out
    assert main(["info", folder]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "grey: 3 frames"


def test_the_commands_take_names_in_any_form_of_unicode(device, tmp_path, capsys):
    photo, folder = tmp_path / "photo.png", str(device)
    Image.new("RGB", (8, 8)).save(photo)
    assert main(["teach", folder, "caf\u00e9", str(photo)]) == 0
    assert main(["teach", folder, "cafe\u0301", str(photo)]) == 0
    printed = capsys.readouterr().out
    assert "taught caf\u00e9 (a new class) from 1 frame\n" in printed
    assert "taught caf\u00e9 (known before) from 1 frame\n" in printed
    assert main(["forget", folder, "cafe\u0301"]) == 0
    assert "forgot caf\u00e9; classes left: red, green, blue\n" in capsys.readouterr().out


def test_a_negative_number_of_threads_is_refused(exported, capsys):
    assert main(["--threads", "-3", "info", str(exported)]) == 2
    line = "crumb_lite: --threads -3: is out of range; give a finite number of at least 0\n"
    assert capsys.readouterr().err == line


def test_crumb_teaches_a_folder_and_says_what_cannot_be_undone(device, clip, capsys):
    folder = str(device)
    assert crumb(["teach", folder, "grey", str(clip)]) == 0
    assert "--undo" not in capsys.readouterr().out
    assert crumb(["teach", folder, "--undo"]) == 2
    assert "has no lesson to undo" in capsys.readouterr().err
    assert crumb(["forget", folder, "red"]) == 0
    assert crumb(["info", folder]) == 0
    printed = capsys.readouterr().out
    assert f"{sum(path.stat().st_size for path in device.iterdir()):,} bytes" in printed
    assert load(device, threads=1).classes == ["green", "blue", "grey"]
    assert (device / portable.PREDICT).exists()


def flipped(name):
    """One bit in the middle of a file."""

    def spoil(folder):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return spoil


def cut(name):
    def spoil(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def removed(name):
    return lambda folder: (folder / name).unlink()


def edited(key, value):
    """Another value in model.json."""

    def spoil(folder):
        path = folder / portable.MODEL
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return spoil


def setting(key, value, signed=False):
    """Another value of the learner in model.json, or none; with a new digest if it is signed."""

    def spoil(folder):
        path = folder / portable.MODEL
        manifest = json.loads(path.read_text())
        learner = manifest[portable.LEARNER]
        section = learner if key in learner else learner["config"]
        section.pop(key)
        if value is not None:
            section[key] = value
        if signed:
            manifest["sha256"][portable.LEARNER] = portable.digest_of({}, learner)
        path.write_text(json.dumps(manifest))

    return spoil


def other_reference(folder):
    """Whole, but of a machine that computes other scores."""
    tensors, meta = read_tensors(folder / portable.STATE, "")
    about = json.loads(meta[portable.KEY])
    del about["sha256"]
    about["reference"][0][0] *= 1.5
    about["sha256"] = portable.digest_of({n: v.numpy() for n, v in tensors.items()}, about)
    write_tensors(folder / portable.STATE, tensors, {portable.KEY: json.dumps(about)})


BOTH = {
    "state flipped": (flipped(portable.STATE), "state.safetensors"),
    "state cut": (cut(portable.STATE), "state.safetensors"),
    "state missing": (removed(portable.STATE), "state.safetensors"),
    "other scores": (other_reference, "other scores"),
    "model cut": (cut(portable.MODEL), "model.json"),
    "model missing": (removed(portable.MODEL), "model.json"),
    "other version": (edited("version", 99), "format version"),
    "other format": (edited("format", "other"), "model.json"),
    "learner": (edited("learner", 1), "model.json"),
    "other method": (setting("method", "ncm"), "model.json: is damaged"),
    "other size": (setting("size", 10), "model.json: is damaged"),
    "no config": (setting("config", None), "model.json: is damaged"),
    "front flipped": (flipped(portable.FRONT), "front.onnx: is damaged"),
}
LITE = {
    "signed size as text": (setting("size", "24", signed=True), "model.json: is damaged"),
    "signed without size": (setting("size", None, signed=True), "model.json: is damaged"),
    "signed without a setting": (setting("shrinkage", None, signed=True), "model.json: is damaged"),
    "front missing": (removed(portable.FRONT), "front.onnx: cannot be read"),
}
FULL = {
    "torch flipped": (flipped(portable.NETWORK), "torch.safetensors"),
    "torch missing": (removed(portable.NETWORK), "torch.safetensors"),
}


def assert_refused(command, words, folder, names, capsys):
    before = listing(folder)
    assert command(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert names in line
    assert line.startswith(("crumb: ", "crumb_lite: "))
    assert listing(folder) == before


@pytest.mark.parametrize("fault", BOTH | LITE)
def test_crumb_lite_refuses_a_damaged_folder(device, clip, capsys, fault):
    spoil, names = (BOTH | LITE)[fault]
    spoil(device)
    assert_refused(main, ["teach", str(device), "grey", str(clip)], device, names, capsys)


@pytest.mark.parametrize("fault", BOTH | FULL)
def test_crumb_refuses_a_damaged_folder(device, clip, capsys, fault):
    spoil, names = (BOTH | FULL)[fault]
    spoil(device)
    assert_refused(crumb, ["teach", str(device), "grey", str(clip)], device, names, capsys)


def test_a_lesson_that_fails_changes_nothing(device, clip, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    words = ["teach", str(device), "grey", str(clip), str(tmp_path / "broken.mp4")]
    assert_refused(main, words, device, "broken.mp4", capsys)


def test_it_imports_neither_torch_nor_crumb(device, clip, tmp_path):
    """In a process that finds only crumb-lite, without the files that only Crumb needs."""
    for name in (portable.NETWORK, portable.PREDICT):
        (device / name).unlink()
    shutil.copytree(ROOT / "lite/src", tmp_path / "alone")
    code = f"""
import sys
sys.modules["torch"] = sys.modules["crumb"] = None
from crumb_lite.__main__ import main
assert main(["teach", {str(device)!r}, "grey", {str(clip)!r}]) == 0
assert main(["predict", {str(device)!r}, {str(clip)!r}]) == 0
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "alone")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{clip}: grey ")
