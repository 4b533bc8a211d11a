"""Engines: the same features as torch's up to rounding, or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

import pytest
import torch
from split_networks import images, small
from tests.rounding import assert_rounded, sums_of

from crumb.errors import InputError
from crumb.features.features import fingerprint
from crumb.nets import engines, export, fronts
from crumb.nets.config import EngineName
from crumb.nets.engines import ENGINES
from crumb.nets.fronts import use_engine
from crumb.nets.split import SplitNetwork

pytestmark = pytest.mark.usefixtures("all_engines", "fresh_cache")
PIXELS = images(3, 16)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is exported or chosen, on disk or in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fronts, "_OPEN", WeakValueDictionary())
    monkeypatch.setattr(fronts, "_CHOSEN", {})


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what is measured."""

    def are(**seconds: float) -> None:
        others = dict.fromkeys(ENGINES, 9.0)
        monkeypatch.setattr(fronts, "seconds_per_image", lambda *_: others | seconds)

    return are


def with_engine(name: EngineName, or_torch: bool = False) -> SplitNetwork:
    network = small().eval()
    use_engine(network, name, or_torch)
    return network


def chosen() -> str:
    """What ``auto`` comes to; features are computed, and are those of torch up to rounding."""
    network = with_engine("auto")
    found, expected = network.features(PIXELS), small().features(PIXELS)
    assert_rounded(found, expected, *sums_of(network.front))
    return network.config.engine


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


def test_other_weights_of_the_front_are_taken_over():
    network = with_engine("onnxruntime")
    before = network.features(PIXELS)
    state = {name: 2 * value for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    other = small()
    other.load_state_dict(state)
    found = network.features(PIXELS)
    assert_rounded(found, other.features(PIXELS), *sums_of(network.front))
    assert not torch.equal(found, before)


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


# What auto comes to.


def test_auto_takes_the_fastest_and_remembers_it(
    times: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    times(torch=1.0, onnxruntime=0.5)
    assert chosen() == "onnxruntime"
    times(torch=0.1)
    assert chosen() == "onnxruntime"
    # In another process, with what is on disk.
    monkeypatch.setattr(fronts, "_CHOSEN", {})
    assert chosen() == "onnxruntime"
    folder = export.cache_folder()
    assert folder is not None
    (path,) = folder.glob("choice_*.json")
    assert json.loads(path.read_text())["seconds_per_image"]["onnxruntime"] == 0.5
    path.write_text("{}")
    monkeypatch.setattr(fronts, "_CHOSEN", {})
    assert chosen() == "torch"


def test_auto_measures_torch_and_every_engine():
    network = small()
    usable = {"onnxruntime": fronts.open_engine(network, "onnxruntime")}
    found = fronts.seconds_per_image(network, usable)
    assert found.keys() == {"torch", "onnxruntime"}
    assert min(found.values()) > 0
    assert torch.get_num_threads() == int(torch.get_num_threads())


def test_an_engine_that_is_hardly_faster_is_not_taken(times: Callable[..., None]):
    times(torch=1.0, onnxruntime=0.95)
    assert chosen() == "torch"


def test_an_engine_that_disagrees_is_not_taken(
    times: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    times(torch=1.0, onnxruntime=0.1, openvino=0.1)
    monkeypatch.setattr(fronts, "disagreement", lambda *_: 2e-3)
    assert chosen() == "torch"
    with pytest.raises(
        InputError, match="^engine='onnxruntime': .* differ from torch's by 2.0e-03"
    ):
        with_engine("onnxruntime").features(PIXELS)


def test_disagreement_is_in_standard_deviations():
    network = small()
    front = network.front
    values = network.preprocessing(fronts._pictures(16))
    off = 0.25 * front(values).std()
    assert fronts.disagreement(network, lambda values: front(values) + off) == pytest.approx(0.25)  # type: ignore[arg-type]
    assert fronts.disagreement(network, lambda values: front(values)[:1]) == float("inf")  # type: ignore[arg-type]


def test_auto_is_torch_for_what_is_no_float32_on_a_cpu(times: Callable[..., None]):
    times(torch=1.0, onnxruntime=0.1)
    network = small()
    network.bf16 = True
    use_engine(network, "auto")
    assert network.front_engine() is None
    assert network.config.engine == "torch"


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


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"bf16": True}, "computes in float32, not with precision='bf16'"),
        ({"trainable": "all"}, "has no effect with trainable='all', which has no front"),
    ],
)
def test_what_engines_do_not_compute_is_refused(change: dict[str, object], problem: str):
    network = small()
    network.bf16 = bool(change.pop("bf16", False))
    network.config = replace(network.config, **change)
    with pytest.raises(InputError, match=f"^engine='onnxruntime': {problem}; give engine='torch'$"):
        use_engine(network, "onnxruntime")


def test_a_front_that_cannot_be_exported(
    monkeypatch: pytest.MonkeyPatch, times: Callable[..., None], capfd: pytest.CaptureFixture[str]
):
    times(torch=1.0, onnxruntime=0.1)

    def fails(*_: object, **__: object) -> None:
        print("%1 : Float(2, 3)")
        raise RuntimeError("no such operation\nand a graph")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(InputError) as refused:
        with_engine("onnxruntime").features(PIXELS)
    assert str(refused.value) == (
        "engine='onnxruntime': cannot be used: the front cannot be exported (no such operation); "
        "give engine='torch'"
    )
    assert chosen() == "torch"
    assert capfd.readouterr() == ("", "")
