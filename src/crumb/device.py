"""Where to compute."""

from __future__ import annotations

from crumb.errors import InputError


def choose_device(name: str) -> str:
    """Resolve ``auto`` and check that a device exists.

    On CUDA, convolutions are set to be deterministic and in full precision, so that the same seed
    gives the same bytes and the published settings their figures.

    Args:
        name: auto, cpu, cuda or cuda:N.

    Raises:
        InputError: no such device on this machine.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    known = kind == "cpu" and not number
    if kind == "cuda" and torch.cuda.is_available() and (not number or number.isdecimal()):
        known = int(number or 0) < torch.cuda.device_count()
    if not known:
        raise InputError(f"--device {name}", "is not on this machine", "give cpu or auto")
    if kind == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
    return name
