"""What Python callers get: it works, or it is an InputError of one line in their own words.

Every argument of every public call is given every odd value below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from networks import images_of, tiny_network
from PIL import Image

import crumb
from crumb.codebook.initialisers import INITIALISERS
from crumb.data.batches import Batch
from crumb.data.protocol import TaskLayout
from crumb.data.sets.registry import sources
from crumb.errors import InputError
from crumb.methods import persistence, registry
from crumb.methods.crumb import CrumbConfig
from crumb.methods.registry import methods
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.stream.config import EvaluationConfig, MachineConfig, StreamConfig

CLIP = next((Path(crumb.__file__).parent / "sample").rglob("*.mp4"))
ODD: dict[str, Any] = {
    "none": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "half": 2.5,
    "nan": float("nan"),
    "infinite": float("inf"),
    "huge": 10**30,
    "too long to print": 10**5000,
    "fraction": Fraction(1, 3),
    "complex": 1j,
    "empty": "",
    "text": "nope",
    "null": "a\0b",
    "half a character": "\ud800",
    "long": "x" * 400,
    "bytes": b"cup",
    "list": [1, "a"],
    "nested": [[[]]],
    "empty list": [],
    "mapping": {"a": 1},
    "set": {"a"},
    "class": int,
    "object": object(),
    "path": Path("/nowhere/at/all"),
    "folder": Path("/"),
    "device file": Path("/dev/null"),
    "device": torch.device("meta"),
    "numpy number": np.float32(2.5),
    "array": np.zeros((2, 2)),
    "array of nothing": np.array(None),
    "tensor": torch.tensor(3),
    "generator": torch.Generator(),
}
odd = pytest.mark.parametrize("value", ODD.values(), ids=list(ODD))


def works_or_is_refused(call: Any, *args: Any, **given: Any) -> None:
    """Anything but an InputError of one line in Python's terms fails."""
    try:
        call(*args, **given)
    except InputError as error:
        line = str(error)
        assert line.splitlines() == [line]
        assert len(line) < 700
        assert not re.search(r"(^|\s)--[a-z]", line)


@pytest.fixture(scope="module")
def tiny() -> Iterator[None]:
    """Learners are created with a network that costs nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (registry, persistence):
            patch.setattr(module, "build_network", lambda *_: tiny_network())
        yield


@pytest.fixture(scope="module")
def learner(tiny: None) -> Any:
    """One that has learned two classes, and which odd values leave as good as it was."""
    learner = crumb.create("crumb", memory_size=8, device="cpu")
    learner.observe(torch.cat([images_of(0, 3), images_of(1, 3)]), ["a"] * 3 + ["b"] * 3)
    return learner


@pytest.mark.parametrize(
    "name", ["method", "seed", "device", *(field.name for field in fields(CrumbConfig))]
)
def test_odd_arguments_of_create(tiny: None, name: str):
    for value in ODD.values():
        works_or_is_refused(crumb.create, **{"method": "crumb", name: value})


@odd
@pytest.mark.parametrize("name", ["backbone", "cut", "weights"])
def test_odd_networks(name: str, value: object, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "build_network", build_network)
    given = {"backbone": "squeezenet1_0", "weights": "random", name: value}
    works_or_is_refused(crumb.create, device="cpu", **given)


def calls(learner: Any, value: Any) -> Iterator[tuple[Any, ...]]:
    """Every call of users, with an odd value in the place of each of its arguments."""
    pixels = images_of(0, 2)
    yield learner.observe, value, "a"
    yield learner.observe, pixels, value
    yield learner.observe, pixels, ["a", value]
    yield learner.observe, pixels, "a", value
    yield learner.partial_fit, value, "a"
    yield learner.partial_fit, pixels, value
    yield learner.partial_fit, pixels, "a", value
    yield learner.partial_fit, pixels, "a", [value]
    for call in (learner.predict, learner.predict_proba, learner.top):
        yield call, value
        yield call, [value]
    yield learner.predict, pixels, value
    yield learner.predict, pixels, 1, value
    yield learner.predict_proba, pixels, value
    yield learner.top, pixels, value
    yield learner.top, pixels, 1, value
    yield learner.calibrate, value, "a"
    yield learner.calibrate, pixels, value
    yield learner.calibrate, pixels, ["a", value]
    yield learner.calibrate, pixels, "a", value
    yield learner.forget, value
    yield learner.merge, value, "a"
    yield learner.merge, "a", value
    yield learner.rename, value, "z"
    yield learner.rename, "b", value


@odd
@pytest.mark.parametrize("method", ["crumb", "slda", "finetune"])
def test_odd_calls(tiny: None, method: str, value: object):
    learner = crumb.create(method, device="cpu")
    learner.observe(torch.cat([images_of(0, 3), images_of(1, 3)]), ["a"] * 3 + ["b"] * 3)
    for call, *arguments in calls(learner, value):
        works_or_is_refused(call, *arguments)
    # It is as good as before.
    learner.observe(images_of(0, 1), "a")
    assert learner.predict(images_of(0, 1))[0] in learner.classes
    assert all(type(name) is str for name in learner.classes)
    assert repr(learner).startswith("<crumb")


@odd
def test_odd_arguments_of_stream(value: object, tmp_path: Path):
    for name in ("dataset", "output", "method", "runs", "backbone", "shrinkage"):
        works_or_is_refused(crumb.stream, **{"dataset": tmp_path, name: value})


@odd
def test_odd_files(learner: Any, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    learner.save("whole")
    works_or_is_refused(crumb.load, value)
    works_or_is_refused(crumb.load, "whole", device=value)
    works_or_is_refused(crumb.load, "whole", write_policy=value)
    works_or_is_refused(crumb.frames, value)
    works_or_is_refused(crumb.frames, CLIP, size=value)
    if not isinstance(value, Path):
        works_or_is_refused(learner.save, value)


@pytest.mark.parametrize(
    "config",
    [NetworkConfig, MachineConfig, EvaluationConfig, TaskLayout, StreamConfig]
    + [method.Config for method in methods().values()]
    + [*sources().values()],
    ids=lambda config: config.__name__,
)
def test_odd_configurations(config: Any):
    usual = {"dataset": Path("data"), "root": Path("raw"), "core50": Path("more")}
    names = [field.name for field in fields(config)]
    given = {name: usual[name] for name in names if name in usual}
    for name in names:
        for value in ODD.values():
            works_or_is_refused(config, **{**given, name: value})


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"memory_size": 2.5},
            "memory_size=2.5: is of the wrong type; give a whole number or None",
        ),
        ({"memory_size": True}, "memory_size=True: is of the wrong type"),
        ({"lr": "0.1"}, "lr='0.1': is of the wrong type; give a number"),
        ({"lr": 0}, "lr=0.0: is out of range"),
        ({"frozen_blocks": 1}, "frozen_blocks=1: is of the wrong type; give true or false"),
        ({"storage": ["image"]}, r"storage=\['image'\]: is not a valid choice; use feature, "),
        ({"seed": None}, "seed=None: is of the wrong type; give a whole number"),
        ({"seed": -1}, "seed=-1: is out of range"),
        ({"device": 0}, "device=0: is of the wrong type; give a string"),
        ({"device": torch.device("meta")}, "device='meta': does not exist on this machine"),
        ({"method": ["er"]}, r"method=\['er'\]: no such method; choose one of"),
        ({"weights": 3}, "weights=3: is of the wrong type"),
        ({"nope": 3}, "nope: is not a setting of crumb"),
    ],
)
def test_create_says_it_in_the_words_of_python(tiny: None, settings: dict[str, Any], line: str):
    with pytest.raises(InputError, match=f"^{line}"):
        crumb.create(**{"method": "crumb", **settings})


@pytest.mark.parametrize("size", [0, -1])
def test_batches_are_of_one_image_at_least(learner: Any, size: int):
    for call in (lambda: learner.observe(images_of(0, 2), "a", size),
                 lambda: learner.predict(images_of(0, 2), batch_size=size)):  # fmt: skip
        with pytest.raises(InputError, match=f"^batch_size={size}: is out of range") as refused:
            call()
        assert refused.value.setting == "batch_size"


def bytes_of(learner: Any) -> dict[str, bytes]:
    return {name: value.cpu().numpy().tobytes() for name, value in learner.state_dict().items()}


SHOWN = [images_of(label, 3) for label in range(3)]


def two_steps(**given: Any) -> Any:
    """A learner, made and used under whatever the program has set."""
    learner = crumb.create("crumb", **{"memory_size": 8, "seed": 3, "device": "cpu", **given})
    learner.observe(SHOWN[0], "a")
    learner.observe(SHOWN[1], "b")
    learner.predict(SHOWN[0])
    return learner


def test_numbers_of_numpy_are_numbers(tiny: None, tmp_path: Path):
    learner = two_steps(seed=np.int64(3), memory_size=np.uint8(8), lr=np.float64(0.001))
    assert bytes_of(learner) == bytes_of(two_steps())
    learner.save(tmp_path / "learner")
    loaded: Any = crumb.load(tmp_path / "learner")
    assert loaded.config == learner.config


@pytest.mark.parametrize("device", ["auto", torch.device("cpu"), torch.device("cpu", 0)], ids=str)
def test_a_device_is_a_name_or_what_torch_calls_one(tiny: None, device: Any):
    assert two_steps(device=device).device.type in ("cpu", "cuda")


def set_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    assert torch.get_default_dtype() == torch.float64
    torch.set_default_dtype(torch.float32)


def set_device() -> Iterator[None]:
    torch.set_default_device("meta")
    yield
    assert torch.get_default_device().type == "meta"
    torch.set_default_device(None)


def set_nothing_to_learn() -> Iterator[None]:
    torch.set_grad_enabled(False)
    yield
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)


def within(context: Any) -> Any:
    """A context as what a program sets before and takes back after."""

    def setting() -> Iterator[None]:
        with context():
            yield

    return setting


@pytest.mark.parametrize(
    "program",
    [
        set_dtype,
        set_device,
        set_nothing_to_learn,
        within(torch.no_grad),
        within(torch.inference_mode),
        within(lambda: torch.device("meta")),
        within(lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    ],
    ids=["dtype", "device", "grad off", "no_grad", "inference", "meta", "autocast"],
)
def test_what_a_program_sets_for_torch_changes_nothing(tiny: None, tmp_path: Path, program: Any):
    usual = two_steps()
    usual.save(tmp_path / "usual")
    around = program()
    next(around)
    try:
        learner = two_steps()
        learner.save(tmp_path / "learner")
        learner = crumb.load(tmp_path / "learner", device="cpu")
        learner.observe(SHOWN[2], "c")
    finally:
        next(around, None)
    assert (tmp_path / "learner").read_bytes() == (tmp_path / "usual").read_bytes()
    usual.observe(SHOWN[2], "c")
    assert bytes_of(learner) == bytes_of(usual)


@pytest.mark.parametrize(
    "labels",
    [
        ("a", "b"),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        iter(["a", "b"]),
        {"a": 1, "b": 2}.keys(),
    ],
    ids=["tuple", "array", "objects", "iterator", "keys"],
)
def test_labels_may_be_any_sequence(tiny: None, labels: Any):
    learner = crumb.create("finetune", device="cpu")
    if isinstance(labels, type({}.keys())):
        with pytest.raises(InputError, match="labels: a dict_keys; give a list"):
            learner.observe(images_of(0, 2), labels)
        return
    learner.observe(images_of(0, 2), labels)
    assert learner.classes == ["a", "b"]
    assert all(type(name) is str for name in learner.classes)


@pytest.mark.parametrize("label", [np.str_("cup"), np.array("cup")], ids=["scalar", "array"])
def test_one_label_for_all_may_be_of_numpy(tiny: None, label: Any, tmp_path: Path):
    learner = crumb.create("finetune", device="cpu")
    learner.observe(images_of(0, 3), label)
    learner.save(tmp_path / "learner")
    assert crumb.load(tmp_path / "learner").predict(images_of(0, 1)) == ["cup"]


@pytest.mark.parametrize(
    ("images", "line"),
    [
        ([], "images: an empty batch"),
        (np.zeros((4, 4), np.uint8), r"images: an array of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"images: an array of shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), r"images: an array of shape .* float32; give uint8"),
        (torch.zeros(1, 4, 4), r"images: a tensor of shape \(1, 4, 4\)"),
        (torch.full((3, 4, 4), 2.0), "images: float values outside"),
        (torch.full((3, 4, 4), float("nan")), "images: float values outside"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "images: a tensor of type torch.int64"),
        (torch.zeros(3, 4, 4, device="meta"), "images: a tensor that is sparse"),
        (torch.zeros(3, 4, 4).to_sparse(), "images: a tensor that is sparse"),
        (torch.zeros(2, 3, 4, 4).to_sparse(), "images: a tensor that is sparse"),
        (torch.zeros(3, 0, 4), "images: an image of shape"),
        (np.zeros((0, 4, 3), np.uint8), "images: an image of shape"),
        (Image.new("F", (4, 4)), "images: has pixels that are floating-point"),
        ({"a": 1}, "images: a dict; give a list"),
        (SimpleNamespace(shape=3), "images: a SimpleNamespace"),
    ],
)
def test_images_that_cannot_be_used(learner: Any, images: Any, line: str):
    before = bytes_of(learner)
    with pytest.raises(InputError, match=f"^{line}"):
        learner.observe(images, "a")
    with pytest.raises(InputError, match=f"^{line}"):
        learner.predict(images)
    assert bytes_of(learner) == before


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16", "LA"])
def test_pictures_of_other_modes_are_read(learner: Any, mode: str):
    assert len(learner.predict(Image.new(mode, (6, 4)))) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
def test_floats_of_any_width_are_pixels(learner: Any, dtype: torch.dtype):
    assert learner.predict(torch.ones(3, 8, 8).to(dtype)) == learner.predict(
        torch.full((3, 8, 8), 255, dtype=torch.uint8)
    )


def test_a_closed_picture_is_refused(learner: Any, tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.close()
    with pytest.raises(InputError, match="images: an image that cannot be read"):
        learner.predict(image)


def test_offline_does_not_observe(tiny: None):
    learner = crumb.create("offline", device="cpu")
    with pytest.raises(InputError, match="method='offline': trains on all data so far .*; use "):
        learner.observe(images_of(0, 1), "a")
    assert learner.classes == []


# Files.


def test_frames_take_a_path_or_its_name():
    assert len(list(crumb.frames(CLIP, 8))) == len(list(crumb.frames(str(CLIP), 8))) > 1
    size: Any = np.int64(8)
    assert next(crumb.frames(CLIP, size)).size == (8, 8)


def test_a_clip_is_refused_at_the_call(tmp_path: Path):
    (tmp_path / "notes.mp4").write_text("no video at all")
    for path, problem in (
        (tmp_path / "gone.mp4", "cannot be read"),
        (tmp_path, "it is a folder"),
        (tmp_path / "notes.mp4", "cannot be decoded"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(str(path))}: .*{problem}"):
            crumb.frames(path)
    for size in (0, -1, 8193):
        with pytest.raises(InputError, match=f"^size={size}: is out of range"):
            crumb.frames(CLIP, size)


def test_a_folder_is_no_learner(tmp_path: Path):
    with pytest.raises(InputError, match="is a folder without model.json; give a model file"):
        crumb.load(tmp_path)


def test_a_policy_that_a_method_does_not_have(tiny: None, tmp_path: Path):
    crumb.create("finetune", device="cpu").save(tmp_path / "learner")
    with pytest.raises(InputError, match="^write_policy='reservoir': is not a setting of finetune"):
        crumb.load(tmp_path / "learner", write_policy="reservoir")


def test_learners_are_saved_into_new_folders(learner: Any, tmp_path: Path):
    learner.save(str(tmp_path / "a" / "b" / "learner"))
    assert crumb.load(str(tmp_path / "a" / "b" / "learner")).classes == learner.classes


def test_learners_that_cannot_be_saved(learner: Any, tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "learner", Path("/proc/learner")):
        with pytest.raises(InputError, match="cannot be written .*; choose another output or free"):
            learner.save(path)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_the_initialisers_are_named(tiny: None):
    with pytest.raises(InputError, match=f"^initialiser='nope': .*{next(iter(INITIALISERS))}"):
        crumb.create("crumb", initialiser="nope")


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", ["lwf", "er", "crumb", "ewc", "icarl"])
def test_tasks_of_ones_own_are_learned_whatever_the_program_set(
    tiny: None, tmp_path: Path, method: str, context: Any
):
    """By the calls to which ``observe`` refers."""

    def file(name: str) -> bytes:
        learner: Any = crumb.create(method, device="cpu")
        for names in (["a", "b"], ["c"]):
            learner.begin_task(names)
            label = learner.classes.index(names[-1])
            images = images_of(label, 4)
            shown = images if learner.needs_images or learner.wants_images else None
            batch = Batch(torch.full((4,), label), learner.features(images), shown)
            learner.learn(batch)
            learner.end_task(OneBatch(batch))
        learner.save(tmp_path / name)
        return (tmp_path / name).read_bytes()

    class OneBatch(list[Batch]):
        batch_size = 4

        def __init__(self, batch: Batch) -> None:
            super().__init__([batch])

    plain = file("plain")
    with context():
        assert file("in it") == plain


@pytest.mark.parametrize("forms", [("\u00c4", "A\u0308"), ("A\u0308", "\u00c4")])
def test_classes_of_files_and_tasks_are_called_by_either_form(
    tiny: None, tmp_path: Path, forms: tuple[str, str]
):
    learner: Any = crumb.create("ncm", device="cpu")
    learner.begin_task([forms[0]])
    assert learner.label_of(forms[1]) == 0
    # As a file of an earlier version has it.
    learner.classes[0] = forms[0]
    learner.save(tmp_path / "m.crumb")
    learner = crumb.load(tmp_path / "m.crumb", device="cpu")
    learner.observe(images_of(0, 2), forms[1])
    assert [learner.label_of(form) for form in forms] == [0, 0]
    assert len(learner.classes) == 1


def test_two_forms_in_a_file_of_an_earlier_version_can_be_merged(tiny: None, tmp_path: Path):
    learner = crumb.create("ncm", device="cpu")
    learner.observe(images_of(0, 4), ["x", "x", "y", "y"])
    learner.classes[:] = ["\u00c4", "A\u0308"]
    learner.save(tmp_path / "m.crumb")
    learner = crumb.load(tmp_path / "m.crumb", device="cpu")
    learner.merge(*learner.classes)
    assert learner.classes == ["\u00c4"]
