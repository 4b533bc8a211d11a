"""Save a learner to one safetensors file, with JSON metadata in its header."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crumb.device import usual_torch
from crumb.files import followed, write_tensors
from crumb.kinds import given
from crumb.lazy import lazy_states

if TYPE_CHECKING:
    from crumb.methods.base import Learner

KEY, VERSION = "crumb-learner", 1


@usual_torch()
def save(learner: Learner, path: str | Path) -> None:
    """Write a learner atomically, making its folder if needed.

    Raises:
        InputError: the file cannot be written.
    """
    file: Path = given("path", path, Path)
    # Use one metadata key, because the order of several would vary between files.
    with lazy_states():
        state = learner.state_dict()
    write_tensors(followed(file), state, {KEY: json.dumps(described(learner))})


def described(learner: Learner) -> dict[str, Any]:
    """What a file says of a learner beside its tensors."""
    preprocessing = learner.network.preprocessing
    return {
        "version": VERSION,
        "method": learner.name,
        "config": asdict(learner.config),
        "network": asdict(learner.network.config),
        "resize": preprocessing.resize,
        "interpolation": preprocessing.interpolation,
        "size": preprocessing.size,
        "weights_sha256": learner.network.weights_sha256,
        "seed": learner.seed,
        "classes": learner.classes,
        "temperature": learner.temperature,
        "reach": learner.reach,
        "outputs": learner.network.outputs,
    }
