"""Engines: the same features as torch's up to rounding, or none."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from split_networks import images, small, with_engine
from tests.rounding import assert_rounded, sums_of

from crumb.errors import InputError
from crumb.features.features import fingerprint
from crumb.nets import engines, export
from crumb.nets.config import EngineName
from crumb.nets.engines import ENGINES
from crumb.nets.fronts import use_engine

pytestmark = pytest.mark.usefixtures("all_engines", "fresh_cache")
PIXELS = images(3, 16)


@pytest.mark.parametrize("name", ENGINES)
def test_features_are_those_of_torch_and_of_each_image_alone(name: EngineName):
    pytest.importorskip(name)
    network = with_engine(name)
    found, expected = network.features(PIXELS), small().features(PIXELS)
    assert_rounded(found, expected, *sums_of(network.front))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(network.features(PIXELS[2:])[0], found[2])
    assert fingerprint(network) != fingerprint(small())
    engine = network.front_engine()
    assert engine is not None
    assert (engine.name, network.config.engine) == (name, name)


def test_the_version_of_an_engine_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch):
    network = with_engine("onnxruntime")
    before = fingerprint(network)
    monkeypatch.setattr(engines, "version", lambda name: "0.0.1")
    monkeypatch.setattr("crumb.features.features.version_of", engines.version_of)
    assert fingerprint(network) != before


@torch.no_grad()
def in_place(front: torch.nn.Module) -> None:
    for value in front.parameters():
        value.mul_(2)


def by_state(front: torch.nn.Module) -> None:
    front.load_state_dict({name: 2 * value for name, value in front.state_dict().items()})


def assigned(front: torch.nn.Module) -> None:
    for value in front.parameters():
        value.data = 2 * value.data


@pytest.mark.parametrize("change", [in_place, by_state, assigned])
def test_other_weights_of_the_front_are_taken_over(change: Callable[[torch.nn.Module], None]):
    network, other = with_engine("onnxruntime"), small()
    before = network.features(PIXELS)
    for one in (network, other):
        change(one.front)
    found = network.features(PIXELS)
    assert_rounded(found, other.features(PIXELS), *sums_of(network.front))
    assert not torch.equal(found, before)
    assert network.front_engine() is network.front_engine()


@pytest.mark.parametrize("name", ENGINES)
def test_a_network_can_be_copied_and_pickled_after_use(name: EngineName):
    pytest.importorskip(name)
    network = with_engine(name)
    expected, engine = network.features(PIXELS), network.front_engine()
    copied = copy.deepcopy(network)
    assert export.name_of(copied) == export.name_of(network)
    assert copied.front_engine() is engine
    assert torch.equal(pickle.loads(pickle.dumps(network)).features(PIXELS), expected)


@pytest.mark.parametrize("name", ENGINES)
def test_no_images_have_no_features(name: EngineName):
    pytest.importorskip(name)
    assert with_engine(name).features(PIXELS[:0]).shape == (0, *small().feature_shape)


def test_openvino_compiles_once_for_all_threads(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("openvino")
    network, opened = with_engine("openvino"), []
    before = engines.OpenVino._open
    monkeypatch.setattr(
        engines.OpenVino, "_open", lambda self, n: opened.append(n) or before(self, n)
    )
    expected = network.features(PIXELS)

    def alike(_: int) -> bool:
        torch.set_num_threads(threads)
        return torch.equal(network.features(PIXELS), expected)

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(alike, range(6)))
    assert opened == [threads]


def test_another_version_of_the_library_is_exported_anew(monkeypatch: pytest.MonkeyPatch):
    network = small()
    network.backbone = replace(network.backbone, library="timm")
    before = export.name_of(network)
    monkeypatch.setattr(export, "version", lambda name: f"{name} 0.0.1")
    assert export.name_of(network) != before


# What is exported.


def cached() -> tuple[Path, Path]:
    folder = export.cache_folder()
    assert folder is not None
    (model,), (about,) = (
        [*folder.glob(pattern)] for pattern in ("*.onnx", "[0-9a-f]*[0-9a-f].json")
    )
    return model, about


def test_a_front_is_exported_once(monkeypatch: pytest.MonkeyPatch):
    first = export.exported(small())
    monkeypatch.setattr(export, "export", lambda network: pytest.fail("exported again"))
    assert export.exported(small()) == first


@pytest.mark.parametrize("part", [0, 1])
def test_a_damaged_export_is_made_again(part: int):
    first = export.exported(small())
    content = [path.read_bytes() for path in cached()]
    cached()[part].write_bytes(content[part][:-9] + b"xxxxxxxxx")
    assert export.exported(small()) == first
    assert [path.read_bytes() for path in cached()] == content


def test_a_folder_that_cannot_be_written_only_costs_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert export.exported(small()) == export.export(small())
    assert with_engine("auto").features(PIXELS).shape == (3, 8, 8, 8)


def test_models_that_were_not_used_for_longest_make_room(monkeypatch: pytest.MonkeyPatch):
    export.exported(small())
    old, about = cached()
    monkeypatch.setattr(export, "CACHE_BYTES", 1)
    export.exported(small("norm"))
    assert not old.exists()
    assert not about.exists()
    cached()


def test_a_folder_that_can_only_be_read_is_used(monkeypatch: pytest.MonkeyPatch):
    first = export.exported(small())

    def refuses(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(export.os, "utime", refuses)
    monkeypatch.setattr(export, "export", lambda network: pytest.fail("exported again"))
    assert export.exported(small()) == first


def test_leftovers_and_old_choices_are_removed(monkeypatch: pytest.MonkeyPatch):
    export.exported(small())
    folder = cached()[0].parent
    names = [".x.onnx.abcdefgh.part", ".y.onnx.abcdefgh.part", "choice_0.json", "choice_1.json"]
    for age, name in enumerate(names):
        (folder / name).touch()
        used = time.time() - 4000 * age
        os.utime(folder / name, (used, used))
    monkeypatch.setattr(export, "CHOICES", 1)
    export._make_room(folder)
    assert {*names} & {path.name for path in folder.iterdir()} == {names[0], names[2]}


# What is refused.


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines, "is_installed", lambda name: False)
    with pytest.raises(InputError) as refused:
        with_engine("openvino")
    assert str(refused.value) == (
        "engine='openvino': is not installed here; pip install 'crumb-learn[openvino]', or give "
        "engine='torch'"
    )
    assert torch.equal(
        with_engine("openvino", or_torch=True).features(PIXELS), small().features(PIXELS)
    )


def test_an_engine_whose_package_has_another_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, times: Callable[..., None]
):
    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(engines, "version", unknown)
    module = import_module("onnxruntime")
    assert engines.version_of("onnxruntime") == f"onnxruntime {module.__version__}"
    assert engines.is_installed("onnxruntime")
    # A folder in the working directory, and a broken installation.
    (tmp_path / "folder_only").mkdir()
    (tmp_path / "broken_engine.py").write_text("raise OSError('no library')")
    monkeypatch.syspath_prepend(tmp_path)
    assert not engines.is_installed("folder_only")
    assert not engines.is_installed("broken_engine")
    assert not engines.is_installed("not_there")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"bf16": True}, "computes in float32, not with precision='bf16';"),
        (
            {"place": "meta"},
            "computes on the CPU, and the network is on a GPU; give device='cpu', or",
        ),
        ({"trainable": "all"}, "has no effect with trainable='all', which has no front;"),
    ],
)
def test_what_engines_do_not_compute_is_refused(change: dict[str, object], problem: str):
    network = small()
    network.to(str(change.pop("place", "cpu")))
    network.bf16 = bool(change.pop("bf16", False))
    network.config = replace(network.config, **change)
    with pytest.raises(InputError, match=f"^engine='onnxruntime': {problem} give engine='torch'$"):
        use_engine(network, "onnxruntime")


def test_other_threads_print_during_an_export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def speaks(*_: object, **__: object) -> None:
        print("exporter")
        thread = threading.Thread(target=print, args=("other",))
        thread.start()
        thread.join()

    monkeypatch.setattr(torch.onnx, "export", speaks)
    export.export(small())
    assert capsys.readouterr() == ("other\n", "")
