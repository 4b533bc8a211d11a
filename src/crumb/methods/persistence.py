"""A learner in one file: safetensors for the numbers, JSON in its header for the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from crumb.data.resize import RESIZES, Resize
from crumb.device import choose_device, usual_torch
from crumb.errors import InputError, setting
from crumb.files import read_tensors, write_tensors
from crumb.kinds import given
from crumb.methods.base import Learner, under
from crumb.methods.older import method_of_today, settings_of_today, tensors_of_today
from crumb.methods.registry import find_method
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.weights import DAMAGE

_KEY, VERSION = "crumb-learner", 1
_ABOUT = {
    "method": str,
    "config": dict,
    "network": dict,
    "seed": int,
    "classes": list,
    "outputs": int,
}
_REMEDY = "give a file written by learner.save or crumb pretrain of this version"


@usual_torch()
def save(learner: Learner, path: str | Path) -> None:
    """Write a learner whole or not at all; the folder is made.

    Raises:
        InputError: the file cannot be written.
    """
    file: Path = given("path", path, Path)
    about = {
        "method": learner.name,
        "config": asdict(learner.config),
        "network": asdict(learner.network.config),
        "resize": learner.network.preprocessing.resize,
        "seed": learner.seed,
        "classes": learner.classes,
        "temperature": learner.temperature,
        "outputs": learner.network.outputs,
    }
    described = {"version": VERSION, **about}
    # One key, because several are written in an order that changes from file to file.
    write_tensors(file, learner.state_dict(), {_KEY: json.dumps(described)})


@usual_torch()
def load(
    path: str | Path, device: str | torch.device = "auto", write_policy: str | None = None
) -> Learner:
    """A learner that goes on where the saved one stopped, to the bit on the same device.

    Args:
        path: of a file written by ``save``.
        device: where to compute: auto (a GPU where there is one), cpu, cuda or cuda:N.
        write_policy: replaces the one that the learner was saved with.

    Raises:
        InputError: missing, damaged, foreign, or of another format version; no such device; a
            policy that the method does not have.
    """
    where = choose_device(device)
    file: Path = given("path", path, Path)
    tensors, about = _read(file)
    try:
        saved = about["config"]
        method = find_method(method_of_today(about["method"], saved))
        known = method.Config.__dataclass_fields__.keys()
        config = method.Config(**settings_of_today(saved, known))
        # The file holds every weight, so none is fetched.
        source = NetworkConfig(**{**about["network"], "weights": "random"})
        network = build_network(source, about["seed"])
        network.preprocessing = replace(network.preprocessing, resize=_resize(about))
    except InputError as error:
        raise _refused(file, error) from error
    except DAMAGE as error:
        raise InputError(file, f"is damaged ({error})", _REMEDY) from error
    config = _policy_replaced(method, config, write_policy)
    try:
        learner = method(network, config, about["seed"], where)
        # A wrong number could ask for more memory than there is.
        if len(tensors[f"network.tail.{network.head_name}.weight"]) != about["outputs"]:
            raise ValueError("its head has another number of outputs")
        learner.start_head(about["outputs"])
        learner.classes = list(about["classes"])
        learner.temperature = _temperature(about, learner)
        learner.load_state_dict(tensors_of_today(tensors))
    except InputError as error:
        raise _refused(file, error) from error
    except DAMAGE as error:
        raise InputError(file, f"is damaged ({error})", _REMEDY) from error
    network.config = NetworkConfig(**about["network"])
    return learner


def _refused(file: Path, error: InputError) -> InputError:
    subject, problem, _ = error.parts
    return InputError(file, f"cannot be loaded ({subject} {problem})", _REMEDY)


def _temperature(about: dict[str, Any], learner: Learner) -> float:
    # Older versions had none.
    temperature = float(about.get("temperature", learner.temperature))
    if not 0 < temperature < float("inf"):
        raise ValueError(f"its temperature is {temperature}")
    return temperature


def _resize(about: dict[str, Any]) -> Resize:
    # Older versions squashed all images, and did not write it down.
    resize = about.get("resize", "squash")
    if resize not in RESIZES:
        raise ValueError(f"images cannot be made square by {str(resize)[:20]!r}")
    return resize


def _policy_replaced(method: type[Learner], config: Any, policy: str | None) -> Any:
    if policy is None:
        return config
    if "write_policy" not in method.Config.__dataclass_fields__:
        problem = f"is no setting of {method.name}"
        raise InputError(setting("write_policy", policy), problem, "leave it out")
    return replace(config, write_policy=policy)


PretrainedParts = Literal["both", "weights", "blocks"]


def load_pretrained(learner: Learner, path: Path, parts: PretrainedParts = "both") -> None:
    """Start ``learner`` from the tail and codebook of a saved one; the head stays fresh.

    Args:
        learner: that has learned nothing yet.
        path: of the saved one.
        parts: weights leaves its codebook, and blocks its tail.

    Raises:
        InputError: the file is unusable, or of another backbone, cut, or codebook size; blocks
            alone are asked for, and there is no codebook.
    """
    tensors, about = _read(path)
    for key in ("backbone", "cut", "trainable"):
        usual, own = (getattr(c, key) for c in (NetworkConfig(), learner.network.config))
        given = about["network"].get(key, usual)
        if given != own:
            raise InputError(path, f"has {key} {given}, this run {own}", "pretrain with the same")
    if parts != "blocks":
        _load_tail(learner, tensors, path)
    begun = parts != "weights" and learner.start_codebook(tensors.get("codebook.blocks"), path)
    if parts == "blocks" and not begun:
        problem = f"is of no use with {learner.name} without memory blocks"
        raise InputError(setting("pretrained_parts", "blocks"), problem, "leave it out")


def _load_tail(learner: Learner, tensors: dict[str, Tensor], path: Path) -> None:
    head = {f"network.tail.{learner.network.head_name}.{part}" for part in ("weight", "bias")}
    state = {f"network.{name}": value for name, value in learner.network.state_dict().items()}
    kept = {
        name: tensors[name]
        for name, value in state.items()
        if name in tensors and tensors[name].shape == value.shape and name not in head
    }
    if len(kept) + len(head) != len(state):
        raise InputError(path, "lacks tensors of this network", _REMEDY)
    learner.network.load_state_dict(under(state | kept, "network."))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, meta = read_tensors(path, _REMEDY)
    if _KEY not in meta:
        raise InputError(path, "is not a learner file", _REMEDY)
    try:
        about = json.loads(meta[_KEY])
        version = about["version"]
        complete = all(isinstance(about.get(key), kind) for key, kind in _ABOUT.items())
        complete = complete and all(isinstance(name, str) for name in about["classes"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(path, "is damaged: its description is unreadable", _REMEDY) from error
    if version != VERSION:
        raise InputError(path, f"has format version {version}", _REMEDY)
    if not complete:
        raise InputError(path, "is damaged: its description is wrong", _REMEDY)
    return tensors, about
