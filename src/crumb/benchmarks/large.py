"""Row ``large``: resident memory needed to save and load a large replay memory.

The plain way gathers the exemplars, serialises them with safetensors and writes the result. To load
them, it maps the file and copies the exemplars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import peak_resident
from crumb.benchmarks.workplace import Workplace
from crumb.files import read_tensors, write_bytes, write_tensors
from crumb.lazy import lazy_states
from crumb.memory.replay import ReplayMemory

SIZE, CODE_BYTES = 40_000, 5_408
"""Number of exemplars, each the code of a feature map of SqueezeNet."""
_CLASSES = 10
_MOST = 1.05


def measure(place: Workplace) -> list[Comparison]:
    """Ratio of the peaks of resident memory, plain to ours, and of our peak to the exemplars."""
    path = place.folder / "large.safetensors"
    saving, held = _saving(path)
    loading = _peaks({"plain": lambda: _load_plainly(path), "crumb": lambda: _load(path)})
    path.unlink()
    if not saving or not loading:
        return [Comparison("large", "saving and loading", note="needs Linux's /proc/self")]
    exemplars = Figure("exemplars", held / 1e6, "MB")
    found = []
    for what, figures in (("saving", saving), ("loading", loading)):
        ours = (figures["crumb"], exemplars)
        found += [
            Comparison("large", f"memory while {what}", [*figures.values()]),
            Comparison("large", f"memory while {what}, by the exemplars", ours, at_most=_MOST),
        ]
    return found


def _saving(path: Path) -> tuple[dict[str, Figure], int]:
    """Peaks while saving, including the exemplars, and the bytes of the exemplars."""
    memory = full_memory(SIZE)
    calls = {"plain": lambda: _save_plainly(memory, path), "crumb": lambda: _save(memory, path)}
    return _peaks(calls, held=memory.nbytes), memory.nbytes


def full_memory(size: int) -> ReplayMemory:
    """Random codes of ten classes in mixed order, as after some tasks."""
    memory = ReplayMemory(size, (CODE_BYTES,), torch.uint8)
    generator = torch.Generator().manual_seed(0)
    count = size // _CLASSES // 2
    for label in [*range(_CLASSES)] * 2:
        rows = torch.randint(256, (count, CODE_BYTES), generator=generator, dtype=torch.uint8)
        memory.add(label, rows)
    return memory


def _peaks(calls: Mapping[str, Callable[[], object]], held: int = 0) -> dict[str, Figure]:
    found = {name: peak_resident(call) for name, call in calls.items()}
    return {
        name: Figure(name, (held + more) / 1e6, "MB")
        for name, more in found.items()
        if more is not None
    }


def _save_plainly(memory: ReplayMemory, path: Path) -> None:
    write_bytes(path, save(memory.state_dict()))


def _save(memory: ReplayMemory, path: Path) -> None:
    with lazy_states():
        write_tensors(path, memory.state_dict(), {})


def _load_plainly(path: Path) -> ReplayMemory:
    return _loaded(load_file(path))


def _load(path: Path) -> ReplayMemory:
    return _loaded(read_tensors(path, "measure again", "rows")[0])


def _loaded(state: dict[str, Tensor]) -> ReplayMemory:
    memory = ReplayMemory(SIZE, (CODE_BYTES,), torch.uint8)
    memory.load_state_dict(state)
    return memory
