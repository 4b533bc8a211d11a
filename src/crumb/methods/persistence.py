"""Reading the files of learners that :mod:`crumb.methods.saving` writes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from crumb.data.names import canonical
from crumb.data.resize import RESIZES, Resize
from crumb.device import choose_device, usual_torch
from crumb.errors import InputError, setting
from crumb.files import read_tensors
from crumb.kinds import given
from crumb.memory.checked import check_finite, check_forms
from crumb.methods.base import Learner, strip_prefix
from crumb.methods.older import EARLIER, LATER, method_of_today, settings_of_today, tensors_of_today
from crumb.methods.registry import find_method
from crumb.methods.saving import KEY, VERSION
from crumb.methods.teachable import Teachable
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
    """A learner that goes on where the saved one stopped, to the bit on the same device.

    Where the engine that its features came from is not installed, torch computes them: they are
    the same up to rounding.

    Args:
        path: of a file written by ``save``.
        device: where to compute: auto (a GPU where there is one), cpu, cuda or cuda:N.
        write_policy: replaces the one that the learner was saved with.

    Raises:
        InputError: missing, damaged, foreign, or of another format version; no such device; a
            policy that the method does not have.
    """
    return load_learner(path, device, write_policy)


@usual_torch()
def load_learner(
    path: str | Path, device: str | torch.device = "auto", write_policy: str | None = None
) -> Learner:
    """:func:`load`, for those who call what users do not."""
    where = choose_device(device)
    file: Path = given("path", path, Path)
    tensors, about = _read(file)
    try:
        saved = about["config"]
        method = find_method(method_of_today(about["method"], saved))
        known = method.Config.__dataclass_fields__.keys()
        config = method.Config(**settings_of_today(saved, known))
        # The file holds every weight, so none is fetched.
        # Files of older versions were learned with torch's features.
        described = {"engine": "torch", **about["network"]}
        source = NetworkConfig(**{**described, "weights": "random"})
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
        learner.classes = _classes(about)
        learner.temperature = _temperature(about, learner)
        learner.reach = _reach(about)
        if len(learner.classes) > about["outputs"]:
            raise ValueError("it has more classes than outputs")
        tensors = tensors_of_today(tensors)
        learner.load_state_dict(tensors)
        if write_policy is None:
            # With another policy other tensors are kept.
            _check(tensors, learner.state_dict())
    except InputError as error:
        raise _refused(file, error) from error
    except DAMAGE as error:
        raise InputError(file, f"is damaged ({error})", _REMEDY) from error
    network.config = NetworkConfig(**described)
    use_engine(network, network.config.engine, or_torch=True)
    return learner


def _check(found: dict[str, Tensor], taken: dict[str, Tensor]) -> None:
    """See that all of a file was taken over, as it is there.

    Raises:
        ValueError: tensors are missing or too many, or of other types or shapes; or weights are not
            finite.
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
    """Names of classes, in the one form that they are asked for by."""
    forms = [(name, canonical(name)) for name in about["classes"]]
    count = Counter(form for _, form in forms)
    # Older versions took two forms of a name for two classes, which can then be merged.
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
    learner.network.load_state_dict(strip_prefix(state | kept, "network."))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, meta = read_tensors(path, _REMEDY)
    if KEY not in meta:
        raise InputError(path, "is not a learner file", _REMEDY)
    try:
        about = json.loads(meta[KEY])
        version = about["version"]
        complete = all(isinstance(about.get(key), kind) for key, kind in _ABOUT.items())
        names = about["classes"] if complete else []
        complete = complete and all(isinstance(name, str) and name for name in names)
        complete = complete and len(set(names)) == len(names)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(path, "is damaged: its description is unreadable", _REMEDY) from error
    if version != VERSION:
        raise InputError(path, f"has format version {version}", _REMEDY)
    if not complete:
        raise InputError(path, "is damaged: its description is wrong", _REMEDY)
    return tensors, about
