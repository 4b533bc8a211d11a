"""Learning from a stream without forgetting, in almost no memory.

    learner = crumb.create("crumb", memory_bytes=250_000)
    learner.observe(list(crumb.frames("cup.mp4")), "cup")
    learner.predict(list(crumb.frames("what_is_it.mp4")))

Names are imported on first use: ``import crumb`` and ``crumb --help`` do not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crumb.errors import InputError

if TYPE_CHECKING:
    from crumb.data.video import frames
    from crumb.methods.base import Learner
    from crumb.methods.persistence import load
    from crumb.methods.registry import create

__all__ = ["InputError", "Learner", "create", "frames", "load"]
__version__ = "0.1.0"

_HOMES = {
    "Learner": ("crumb.methods.base", "Learner"),
    "create": ("crumb.methods.registry", "create"),
    "frames": ("crumb.data.video", "frames"),
    "load": ("crumb.methods.persistence", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'crumb' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
