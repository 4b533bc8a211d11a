"""Checkpoints of a run, from which it resumes bit for bit."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crumb.data.protocol import TaskList
from crumb.errors import InputError, setting
from crumb.files import digest, read_tensors, write_tensors
from crumb.lazy import lazy_states
from crumb.memory.replay import EXEMPLARS
from crumb.methods.base import Learner, strip_prefix
from crumb.methods.older import tensors_of_today
from crumb.nets.engines import version_of
from crumb.nets.weights import DAMAGE
from crumb.stream.learned_sizes import LearnedSizes
from crumb.stream.positions import FORMAT, VERSION, number_of
from crumb.stream.record import RunRecord, record_from_json, record_to_json

# Keep the previous checkpoint in case the newest is damaged.
_KEPT = 2
_FRONT = "network.front."
_REMEDY = "free space, then call again"
_ROUNDING = {
    "threads": "threads of torch",
    "torch": "as torch's version",
    "engine": "as the engine of the front",
    "tail": "as the tail",
}
"""What of a machine may change between two calls, in words."""


@dataclass
class State:
    """The state of a run: its measurements so far and the next batch.

    Attributes:
        record: record of the run so far.
        task: the current task.
        epoch: number of finished and tested epochs of the task.
        batch: number of batches learned in the current epoch.
        best_accuracy: held-out accuracy of this task's best epoch, in percent; -1 before the first.
        best: parameters after that epoch, by name.
        best_epoch: number of that epoch.
        source: name of the checkpoint file it was read from, if any.
    """

    record: RunRecord
    task: int = 0
    epoch: int = 0
    batch: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    source: str = ""


_PLAIN = ("task", "epoch", "batch", "best_accuracy", "best_epoch")


class Checkpoints:
    """The newest two checkpoints of one run, written atomically.

    They hold a digest of the frozen feature extractor instead of its weights, which follow from the
    settings stored with the results.

    Args:
        folder: folder of the files.
        tasks: tasks of the run; a checkpoint of other tasks is refused.
        minutes: minutes between checkpoints.
        batches: batches between checkpoints, if any.
        images: root folder of the image paths. If given, a checkpoint is refused if it has learned
            from images whose file sizes (bytes) have changed.

    Attributes:
        damaged: names of the files that :meth:`restore` found damaged.
        changed: differences of the machine, in words, that may change the last bits of results.
    """

    def __init__(
        self,
        folder: Path,
        tasks: TaskList,
        minutes: float = 10.0,
        batches: int | None = None,
        images: Path | None = None,
    ) -> None:
        self._folder, self._run = folder, tasks.run
        self._data = data_digest(tasks)
        self._tasks = tasks.tasks
        self._sizes = None if images is None else LearnedSizes(images, tasks.tasks)
        self._seconds, self._batches = 60 * minutes, batches
        self._last, self._since = time.monotonic(), 0
        # Position of the last checkpoint, so that none is written twice.
        self._saved: tuple[int, int, int] | None = None
        self._front: str | None = None
        self.damaged: list[str] = []
        self.changed: list[str] = []

    def due(self) -> bool:
        """Whether the next checkpoint is due. Call it once after each batch."""
        self._since += 1
        long_ago = time.monotonic() - self._last >= self._seconds
        return long_ago or self._since == self._batches

    def save(self, learner: Learner, state: State) -> None:
        """Write a checkpoint and remove the one before the last.

        Raises:
            InputError: the checkpoint cannot be written; the earlier ones are kept.
        """
        place = (state.task, state.epoch, state.batch)
        if place == self._saved:
            return
        with lazy_states():
            held = learner.state_dict().items()
        tensors = {f"learner.{name}": v for name, v in held if not name.startswith(_FRONT)}
        tensors |= {f"best.{name}": value for name, value in state.best.items()}
        about = {
            "version": VERSION,
            "data": self._data,
            "tasks": len(self._tasks),
            "bytes": self._learned_bytes(state.task),
            "front": self._front_digest(learner),
            "machine": _machine(learner),
            "classes": learner.classes,
            "record": record_to_json(state.record),
            **{name: getattr(state, name) for name in _PLAIN},
        }
        meta = {FORMAT: json.dumps([_seal(tensors, about), about])}
        number = max((number_of(path) for path in self._paths()), default=-1) + 1
        write_tensors(
            self._folder / f"run{self._run}_{number:06}.safetensors", tensors, meta, _REMEDY
        )
        whole = [path for path in self._paths() if path.name not in self.damaged]
        for path in set(self._paths()) - set(whole[-_KEPT:]):
            path.unlink(missing_ok=True)
        self._last, self._since, self._saved = time.monotonic(), 0, place

    def restore(self, learner: Learner) -> State | None:
        """Restore a fresh learner, with its head, from the newest undamaged checkpoint.

        Returns:
            the state of the run; None if it has no undamaged checkpoint.

        Raises:
            InputError: the checkpoint is of other tasks, another feature extractor or another
                format version.
        """
        for path in reversed(self._paths()):
            if (found := self._read(path)) is None:
                self.damaged.append(path.name)
                continue
            try:
                return self._take_over(path, learner, *found)
            except DAMAGE as error:
                # The file is undamaged, so another build of this version wrote it.
                problem = (
                    f"was written by another version of Crumb ({type(error).__name__}: {error})"
                )
                raise InputError(
                    path, problem, "resume with that version or remove the file"
                ) from error
        return None

    def _take_over(
        self, path: Path, learner: Learner, tensors: dict[str, Tensor], about: dict[str, Any]
    ) -> State:
        if about["bytes"] != self._learned_bytes(about["task"]):
            problem = "has learned from images whose size has changed"
            raise InputError(path, problem, f"restore them, or give another {setting('output')}")
        if about["front"] != self._front_digest(learner):
            problem = "was made with other weights of the frozen feature extractor"
            raise InputError(path, problem, f"use the {setting('weights')} it was started with")
        self._check_machine(path, about["machine"], _machine(learner))
        learner.classes = list(about["classes"])
        known = tensors_of_today(strip_prefix(tensors, "learner."))
        learner.load_state_dict(known | _front_of(learner))
        record = record_from_json(about["record"])
        place = {name: about[name] for name in _PLAIN}
        self._saved = (place["task"], place["epoch"], place["batch"])
        return State(record, best=strip_prefix(tensors, "best."), source=path.name, **place)

    def clear(self) -> None:
        """Remove the checkpoints of a finished run."""
        for path in self._paths():
            path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _learned_bytes(self, tasks: int) -> str:
        """Digest of the image sizes of finished tasks. Images of later tasks may still be
        repaired.
        """
        return "" if self._sizes is None else self._sizes.digest(tasks)

    def _check_machine(
        self, path: Path, then: dict[str, str | int], now: dict[str, str | int]
    ) -> None:
        """Refuse another kind of device: a CPU cannot continue a GPU's dropout masks. Other
        differences only change rounding.

        Raises:
            InputError: the device is of another kind, or the engine is another.
        """
        if then["device"] != now["device"]:
            problem = f"was made with {setting('device', then['device'])}, this is {now['device']}"
            raise InputError(path, problem, f"give {setting('device', then['device'])}")
        # Earlier versions had no other engine, and did not record whether the tail is compiled.
        then = {"engine": "torch", "tail": now["tail"], **then}
        engine, own = (str(machine["engine"]).partition(" ")[0] for machine in (then, now))
        if engine != own:
            problem = f"was made with {setting('engine', engine)}, this is {own}"
            raise InputError(path, problem, f"give {setting('engine', engine)}")
        self.changed = [
            f"{then[what]} {words}, now {now[what]}"
            for what, words in _ROUNDING.items()
            if then[what] != now[what]
        ]

    def _front_digest(self, learner: Learner) -> str:
        """The feature extractor is frozen, so compute its digest once."""
        if self._front is None:
            self._front = digest(_front_of(learner))
        return self._front

    def _paths(self) -> list[Path]:
        found = self._folder.glob(f"run{self._run}_*.safetensors")
        return sorted((path for path in found if number_of(path) >= 0), key=number_of)

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read a checkpoint; None if it is damaged."""
        try:
            tensors, meta = read_tensors(path, "make it readable, or remove it", EXEMPLARS)
            seal, about = json.loads(meta[FORMAT])
        except InputError as error:
            # An unreadable file is not a damaged one.
            if isinstance(error.__cause__, OSError):
                raise
            return None
        except (LookupError, ValueError, TypeError):
            return None
        if about.get("version") != VERSION:
            problem = f"is of version {about.get('version')}, not {VERSION}"
            raise InputError(
                path, problem, "resume with the version of Crumb that wrote it or remove it"
            )
        if seal != _seal(tensors, about):
            return None
        if about["data"] != self._data:
            problem = "was made with other images, labels or another order in its tasks"
            raise InputError(
                path, problem, f"restore the data set, or give another {setting('output')}"
            )
        return tensors, about


def _machine(learner: Learner) -> dict[str, str | int]:
    """Properties of the machine that affect rounding."""
    network = learner.network
    engine, compiled = network.front_engine(), network.tail._compiled_call_impl is not None
    return {
        "device": learner.device.type,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "engine": "torch" if engine is None else version_of(engine.name),
        "tail": "compiled" if compiled else "not compiled",
    }


def _front_of(learner: Learner) -> dict[str, Tensor]:
    held = learner.network.state_dict(prefix="network.").items()
    return {name: value for name, value in held if name.startswith(_FRONT)}


def _seal(tensors: dict[str, Tensor], about: dict[str, Any]) -> str:
    return hashlib.sha256(
        (digest(tensors) + json.dumps(about, sort_keys=True)).encode()
    ).hexdigest()


def data_digest(tasks: TaskList) -> str:
    """SHA-256 of every class, path and label of a run, in order, in hexadecimal."""
    found = hashlib.sha256(repr(tasks.classes).encode())
    for frames in _all_frames(tasks):
        found.update("\n".join(frames.paths).encode())
        found.update(frames.labels.tobytes())
    return found.hexdigest()


def _all_frames(tasks: TaskList) -> Iterable[Any]:
    return (*tasks.tasks, tasks.test)
