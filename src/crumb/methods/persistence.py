"""Read the learner files that :mod:`crumb.methods.saving` writes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crumb.data.names import canonical
from crumb.device import choose_device, usual_torch
from crumb.errors import InputError, setting
from crumb.files import is_folder, read_tensors
from crumb.kinds import given
from crumb.lazy import lazy_states
from crumb.memory.checked import check_finite, check_forms
from crumb.memory.replay import EXEMPLARS
from crumb.methods.base import Learner, strip_prefix
from crumb.methods.exported import check_reference, read_folder
from crumb.methods.older import (
    EARLIER,
    LATER,
    method_of_today,
    preprocessing_of,
    settings_of_today,
    tensors_of_today,
)
from crumb.methods.registry import find_method
from crumb.methods.saving import KEY, VERSION
from crumb.methods.teachable import Teachable
from crumb.methods.training import PretrainedParts
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.fronts import use_engine
from crumb.nets.weights import DAMAGE

_ABOUT = {
    "method": str,
    "config": dict,
    "network": dict,
    "seed": int,
    "classes": list,
    "outputs": int,
}
_REMEDY = "give a file written by learner.save or crumb pretrain of this version"


def load(
    path: str | Path, device: str | torch.device = "auto", write_policy: str | None = None
) -> Teachable:
    """Load a saved learner. It continues bit for bit on the same device.

    Where the engine that its features came from is not installed, torch computes them: they are
    the same up to rounding.

    Args:
        path: file written by ``save``, or folder written by ``crumb export``.
        device: device: auto (a GPU if available), cpu, cuda or cuda:N.
        write_policy: replaces the saved write policy.

    Raises:
        InputError: the file is missing, damaged, not a learner file or of another format version;
            the device does not exist; or the method lacks the policy.
    """
    return load_learner(path, device, write_policy)


@usual_torch()
def load_learner(
    path: str | Path, device: str | torch.device = "auto", write_policy: str | None = None
) -> Learner:
    """Like :func:`load`, for internal callers."""
    where = choose_device(device)
    file: Path = given("path", path, Path)
    tensors, about = _read(file)
    try:
        saved = about["config"]
        method = find_method(method_of_today(about["method"], saved))
        known = method.Config.__dataclass_fields__.keys()
        config = method.Config(**settings_of_today(saved, known))
        # The file holds every weight, so none is downloaded.
        # Files of older versions were learned with torch's features.
        described = {"engine": "torch", **about["network"]}
        source = NetworkConfig(**{**described, "weights": "random"})
        network = build_network(source, about["seed"], preprocessing_of(source, about))
        network.weights_sha256 = _digest(about)
    except InputError as error:
        raise _refused(file, error) from error
    except DAMAGE as error:
        raise InputError(file, f"is damaged ({error})", _REMEDY) from error
    config = _policy_replaced(method, config, write_policy)
    try:
        learner = method(network, config, about["seed"], where)
        # A damaged number could request more memory than available.
        if len(tensors[f"network.tail.{network.head_name}.weight"]) != about["outputs"]:
            raise ValueError("its head has another number of outputs")
        learner.start_head(about["outputs"])
        learner.classes = _classes(about)
        learner.temperature = _temperature(about, learner)
        learner.reach = _reach(about)
        if len(learner.classes) > about["outputs"]:
            raise ValueError("it has more classes than outputs")
        tensors = tensors_of_today(tensors)
        learner.load_state_dict(tensors)
        if write_policy is None:
            # Another policy stores other tensors.
            with lazy_states():
                _check(tensors, learner.state_dict())
    except InputError as error:
        raise _refused(file, error) from error
    except DAMAGE as error:
        raise InputError(file, f"is damaged ({error})", _REMEDY) from error
    network.config = NetworkConfig(**described)
    use_engine(network, network.config.engine, or_torch=True)
    if is_folder(file):
        check_reference(learner, about.get("reference"), file)
        learner.state_sha256 = about["sha256"]
    return learner


def _check(found: dict[str, Tensor], taken: dict[str, Tensor]) -> None:
    """Check that everything in a file was loaded unchanged.

    Raises:
        ValueError: tensors are missing, unexpected, of other types or shapes, or not finite.
    """
    # A later version may draw from more generators.
    one, other = (
        {name: value for name, value in state.items() if not name.startswith("generator.")}
        for state in (found, taken)
    )
    one |= {name: other[name] for name in LATER if name in other.keys() - one.keys()}
    one = {name: value for name, value in one.items() if name in other or name not in EARLIER}
    check_forms(one, other)
    check_finite({name: value for name, value in one.items() if name.startswith("network.")})


def _classes(about: dict[str, Any]) -> list[str]:
    """Class names in canonical form."""
    forms = [(name, canonical(name)) for name in about["classes"]]
    count = Counter(form for _, form in forms)
    # Older versions treated two Unicode forms of a name as two classes, which can then be merged.
    return [form if count[form] == 1 else name for name, form in forms]


def _refused(file: Path, error: InputError) -> InputError:
    subject, problem, _ = error.parts
    return InputError(file, f"cannot be loaded ({subject} {problem})", _REMEDY)


def _temperature(about: dict[str, Any], learner: Learner) -> float:
    # Older versions had none.
    temperature = float(about.get("temperature", learner.temperature))
    if not 0 < temperature < float("inf"):
        raise ValueError(f"its temperature is {temperature}")
    return temperature


def _reach(about: dict[str, Any]) -> tuple[float, float] | None:
    # Older versions had none.
    if (found := about.get("reach")) is None:
        return None
    farther, variance = map(float, found)
    if not (1 <= farther < float("inf") and 0 <= variance < float("inf")):
        raise ValueError(f"its reach is {farther}, {variance}")
    return farther, variance


def _digest(about: dict[str, Any]) -> str | None:
    # Older versions had none.
    digest = about.get("weights_sha256")
    if digest is not None and not isinstance(digest, str):
        raise ValueError("the digest of its weights is no text")
    return digest


def _policy_replaced(method: type[Learner], config: Any, policy: str | None) -> Any:
    if policy is None:
        return config
    if "write_policy" not in method.Config.__dataclass_fields__:
        problem = f"is not a setting of {method.name}"
        raise InputError(setting("write_policy", policy), problem, "leave it out")
    return replace(config, write_policy=policy)


def load_pretrained(learner: Learner, path: Path, parts: PretrainedParts = "both") -> None:
    """Initialise ``learner`` with the tail and codebook of a saved one. The head stays fresh.

    Args:
        learner: untrained learner.
        path: file of the saved learner.
        parts: weights loads only the tail, blocks only the codebook.

    Raises:
        InputError: the file is unusable, or of another backbone, cut or codebook size; or only
            blocks are requested and there is no codebook.
    """
    tensors, about = _read(path)
    for key in ("backbone", "cut", "trainable"):
        usual, own = (getattr(c, key) for c in (NetworkConfig(), learner.network.config))
        given = about["network"].get(key, usual)
        if given != own:
            raise InputError(
                path, f"has {key} {given}, but this run has {own}", "pretrain with the same"
            )
    if parts != "blocks":
        _load_tail(learner, tensors, path)
    begun = parts != "weights" and learner.start_codebook(tensors.get("codebook.blocks"), path)
    if parts == "blocks" and not begun:
        problem = f"has no effect with {learner.name} without memory blocks"
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
    learner.network.load_state_dict(strip_prefix(state | kept, "network."))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, about = read_folder(path) if is_folder(path) else _read_file(path)
    try:
        version = about["version"]
        complete = all(isinstance(about.get(key), kind) for key, kind in _ABOUT.items())
        names = about["classes"] if complete else []
        complete = complete and all(isinstance(name, str) and name for name in names)
        complete = complete and len(set(names)) == len(names)
    except (AttributeError, KeyError, TypeError) as error:
        raise _unreadable(path) from error
    if version != VERSION:
        raise InputError(path, f"has format version {version}", _REMEDY)
    if not complete:
        raise InputError(path, "is damaged: its description is wrong", _REMEDY)
    return tensors, about


def _read_file(path: Path) -> tuple[dict[str, Tensor], Any]:
    tensors, meta = read_tensors(path, _REMEDY, EXEMPLARS)
    if KEY not in meta:
        raise InputError(path, "is not a learner file", _REMEDY)
    try:
        return tensors, json.loads(meta[KEY])
    except (ValueError, RecursionError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> InputError:
    return InputError(path, "is damaged: its description is unreadable", _REMEDY)
