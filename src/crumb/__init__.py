"""Learning from a stream without forgetting, in almost no memory.

    learner = crumb.create()
    learner.observe("cup.mp4", "cup")
    learner.observe("plate.mp4", "plate")
    learner.predict("what_is_it.mp4")
    learner.save("kitchen.crumb")

create  a new learner: slda within 64,000 bytes, or any method with its settings
load    a saved learner, which goes on to the bit
frames  the frames of a clip, one for each second
stream  a whole experiment over an indexed data set

Names are imported on first use: ``import crumb`` and ``crumb --help`` do not wait for torch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from crumb.errors import InputError

# Threads of torch that wait are to sleep: spinning, they take the processor from other work. The
# variable is read when torch is loaded, which is later than this in every command.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

if TYPE_CHECKING:
    from crumb.data.video import frames
    from crumb.methods.persistence import load
    from crumb.methods.registry import create
    from crumb.methods.teachable import Teachable as Learner
    from crumb.stream.call import stream

__all__ = ["InputError", "Learner", "create", "frames", "load", "stream"]
__version__ = "0.1.0"

_HOMES = {
    "Learner": ("crumb.methods.teachable", "Teachable"),
    "create": ("crumb.methods.registry", "create"),
    "frames": ("crumb.data.video", "frames"),
    "load": ("crumb.methods.persistence", "load"),
}


def __getattr__(name: str) -> Any:
    if name == "stream":
        # The room of this name, which can be called.
        from importlib import import_module

        return import_module("crumb.stream")
    if name not in _HOMES:
        raise AttributeError(f"module 'crumb' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
