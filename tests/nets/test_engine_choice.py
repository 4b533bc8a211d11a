"""What auto comes to: the fastest engine, chosen once for each machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from split_networks import images, small, with_engine
from tests.rounding import assert_rounded, rounded, sums_of

from crumb.errors import InputError
from crumb.locks import try_lock
from crumb.nets import engines, export, fronts
from crumb.nets.engines import Engine
from crumb.nets.fronts import use_engine

pytestmark = pytest.mark.usefixtures("all_engines", "fresh_cache")
PIXELS = images(3, 16)


def chosen() -> str:
    """What ``auto`` comes to; features are computed, and are those of torch up to rounding."""
    network = with_engine("auto")
    found, expected = network.features(PIXELS), small().features(PIXELS)
    assert_rounded(found, expected, *sums_of(network.front))
    return network.config.engine


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


def test_an_engine_is_measured_on_one_thread():
    network, used = small(), []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found: dict[str, Engine] = {"noted": lambda _: used.append(torch.get_num_threads())}  # type: ignore[dict-item]
        fronts.seconds_per_image(network, found)
        assert set(used) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_one_front_cannot_use_is_not_remembered(
    times: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    times(torch=1.0, onnxruntime=0.1)
    with monkeypatch.context() as failing:
        failing.setattr(fronts, "disagreement", lambda *_: 1.0)
        assert chosen() == "torch"
    assert chosen() == "onnxruntime"


def test_without_a_folder_every_process_comes_to_the_same(
    times: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(export, "cache_folder", lambda: None)
    monkeypatch.setattr(engines, "is_installed", lambda name: name == "onnxruntime")
    times(torch=1.0, onnxruntime=2.0)
    assert chosen() == "onnxruntime"


def test_one_process_measures_at_a_time(
    times: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    times(torch=1.0, onnxruntime=0.5)
    usable = fronts._usable

    def slowly(*arguments: Any) -> Any:
        folder = export.cache_folder()
        assert folder is not None
        descriptor = os.open(folder, os.O_RDONLY)
        locked.append(not try_lock(descriptor))
        os.close(descriptor)
        return usable(*arguments)

    locked: list[bool] = []
    monkeypatch.setattr(fronts, "_usable", slowly)
    chosen()
    assert locked == [True]


def test_an_engine_that_auto_has_chosen_is_not_replaced_by_torch(
    times: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    times(torch=1.0, onnxruntime=0.5)
    network = with_engine("auto")
    network.features(PIXELS)
    with torch.no_grad():
        next(network.front.parameters()).mul_(2)
    monkeypatch.setattr(fronts, "disagreement", lambda *_: 1.0)
    with pytest.raises(InputError, match=r"^engine='onnxruntime': .* differ from torch's"):
        network.features(PIXELS)


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
    maps = front(values)
    off = 0.25 * maps.std()
    found = fronts.disagreement(network, lambda values: front(values) + off)  # type: ignore[arg-type]
    assert found == rounded(0.25, maps.numel())
    assert fronts.disagreement(network, lambda values: front(values)[:1]) == float("inf")  # type: ignore[arg-type]


def test_auto_is_torch_for_what_is_no_float32_on_a_cpu(times: Callable[..., None]):
    times(torch=1.0, onnxruntime=0.1)
    network = small()
    network.bf16 = True
    use_engine(network, "auto")
    assert network.front_engine() is None
    assert network.config.engine == "torch"


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
