"""Where a run stands, written so that it can go on from there to the bit."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from crumb.data.protocol import TaskList
from crumb.errors import InputError, setting
from crumb.files import digest, read_metadata, read_tensors, write_tensors
from crumb.methods.base import Learner, strip_prefix
from crumb.nets.engines import version_of
from crumb.nets.weights import DAMAGE
from crumb.stream.record import RunRecord, record_from_json, record_to_json

FORMAT, VERSION = "crumb-checkpoint", 1
# The one before is there in case the newest is damaged.
_KEPT = 2
_FRONT = "network.front."
_REMEDY = "free space, then call again"
_ROUNDING = {
    "threads": "threads of torch",
    "torch": "as torch's version",
    "engine": "as the engine of the front",
}
"""What of a machine may change between two calls, in words."""


@dataclass
class State:
    """Where a run stands: what it has measured, and the batch that comes next.

    Attributes:
        record: of the run so far.
        task: that is learned.
        epoch: readings of the task that are finished and tested.
        batch: batches of the present reading that are learned.
        best_accuracy: percent on held-out images, of this task's best epoch; -1 before any.
        best: the parameters after that epoch, by name.
        best_epoch: its number.
        source: name of the checkpoint that it was read from, if any.
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
    """The checkpoints of one run: the newest two, each whole or not there.

    The frozen front is not in them, only its digest: it follows from the settings, which lie
    beside the results.

    Args:
        folder: of the files.
        tasks: of the run; a checkpoint of other tasks is refused.
        minutes: between two checkpoints.
        batches: between two checkpoints, if any.
        images: root folder of the paths; where it is given, a checkpoint is refused that has
            learned from images of other sizes (bytes).

    Attributes:
        damaged: names of the files that :meth:`restore` found damaged.
        changed: what differs about the machine, so that the last bits may, in words.
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
        self._tasks, self._images = tasks.tasks, images
        self._seconds, self._batches = 60 * minutes, batches
        self._last, self._since = time.monotonic(), 0
        # Where the last one stood, so that the same is not written twice.
        self._saved: tuple[int, int, int] | None = None
        self._front: str | None = None
        self.damaged: list[str] = []
        self.changed: list[str] = []

    def due(self) -> bool:
        """Whether it is time for another; to be asked once after each batch."""
        self._since += 1
        long_ago = time.monotonic() - self._last >= self._seconds
        return long_ago or self._since == self._batches

    def save(self, learner: Learner, state: State) -> None:
        """Write where a run stands, and remove the checkpoint before the last.

        Raises:
            InputError: it cannot be written; the earlier ones are kept.
        """
        place = (state.task, state.epoch, state.batch)
        if place == self._saved:
            return
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
        number = max((_number(path) for path in self._paths()), default=-1) + 1
        write_tensors(
            self._folder / f"run{self._run}_{number:06}.safetensors", tensors, meta, _REMEDY
        )
        whole = [path for path in self._paths() if path.name not in self.damaged]
        for path in set(self._paths()) - set(whole[-_KEPT:]):
            path.unlink(missing_ok=True)
        self._last, self._since, self._saved = time.monotonic(), 0, place

    def restore(self, learner: Learner) -> State | None:
        """Bring a fresh learner, with its head, to the newest whole checkpoint.

        Returns:
            where the run stands; None where it has no whole checkpoint.

        Raises:
            InputError: a checkpoint of other tasks, of another front or format version.
        """
        for path in reversed(self._paths()):
            if (found := self._read(path)) is None:
                self.damaged.append(path.name)
                continue
            try:
                return self._take_over(path, learner, *found)
            except DAMAGE as error:
                # Whole, so it was written like this, by another program of this version.
                problem = f"is of another Crumb ({type(error).__name__}: {error})"
                raise InputError(path, problem, "go on with that one, or remove it") from error
        return None

    def _take_over(
        self, path: Path, learner: Learner, tensors: dict[str, Tensor], about: dict[str, Any]
    ) -> State:
        if about["bytes"] != self._learned_bytes(about["task"]):
            problem = "has learned from images that are no longer of the same size"
            raise InputError(path, problem, f"restore them, or give another {setting('output')}")
        if about["front"] != self._front_digest(learner):
            problem = "was made with other weights of the frozen front"
            raise InputError(
                path, problem, f"give back the {setting('weights')} that it was begun with"
            )
        self._check_machine(path, about["machine"], _machine(learner))
        learner.classes = list(about["classes"])
        learner.load_state_dict(strip_prefix(tensors, "learner.") | _front_of(learner))
        record = record_from_json(about["record"])
        place = {name: about[name] for name in _PLAIN}
        self._saved = (place["task"], place["epoch"], place["batch"])
        return State(record, best=strip_prefix(tensors, "best."), source=path.name, **place)

    def clear(self) -> None:
        """Remove the checkpoints of a run that is finished."""
        for path in self._paths():
            path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _learned_bytes(self, tasks: int) -> str:
        """Digest of the size of each image of the tasks that are over; later ones may be mended."""
        if self._images is None:
            return ""
        paths = (path for frames in self._tasks[:tasks] for path in frames.paths)
        sizes = [_bytes(self._images / path) for path in dict.fromkeys(paths)]
        return hashlib.sha256(repr(sizes).encode()).hexdigest()

    def _check_machine(
        self, path: Path, then: dict[str, str | int], now: dict[str, str | int]
    ) -> None:
        """Dropout masks of a GPU cannot be continued on a CPU; sums may only be rounded otherwise.

        Raises:
            InputError: another kind of device, or another engine.
        """
        if then["device"] != now["device"]:
            problem = f"was made with {setting('device', then['device'])}, this is {now['device']}"
            raise InputError(path, problem, f"give {setting('device', then['device'])}")
        # Earlier versions had no other engine.
        then = {"engine": "torch", **then}
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
        """It does not change, so it is taken once."""
        if self._front is None:
            self._front = digest(_front_of(learner))
        return self._front

    def _paths(self) -> list[Path]:
        found = self._folder.glob(f"run{self._run}_*.safetensors")
        return sorted((path for path in found if _number(path) >= 0), key=_number)

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """A checkpoint; None if it is damaged."""
        try:
            tensors, meta = read_tensors(path, "make it readable, or remove it")
            seal, about = json.loads(meta[FORMAT])
        except InputError as error:
            # That it cannot be read now says nothing of what is in it.
            if isinstance(error.__cause__, OSError):
                raise
            return None
        except (LookupError, ValueError, TypeError):
            return None
        if about.get("version") != VERSION:
            problem = f"is of version {about.get('version')}, not {VERSION}"
            raise InputError(path, problem, "go on with the Crumb that wrote it, or remove it")
        if seal != _seal(tensors, about):
            return None
        if about["data"] != self._data:
            problem = "was made with other images, labels or order in the tasks"
            raise InputError(
                path, problem, f"restore the data set, or give another {setting('output')}"
            )
        return tensors, about


@dataclass(frozen=True)
class RunPosition:
    """Where an unfinished run stands.

    Attributes:
        task: that is learned, from 0; the number of tasks after the last one.
        tasks: how many there are; None in a checkpoint of a Crumb that did not say so.
    """

    task: int
    tasks: int | None


def places_in(folder: Path) -> dict[int, RunPosition]:
    """Where each run stands that has checkpoints in a folder, by number; no tensor is read.

    Raises:
        InputError: all checkpoints of a run are damaged.
    """
    found: dict[int, RunPosition] = {}
    damaged: dict[int, InputError] = {}
    paths = [path for path in folder.glob("run*_*.safetensors") if _number(path) >= 0]
    for path in sorted(paths, key=_number, reverse=True):
        run = path.stem.rpartition("_")[0].removeprefix("run")
        if not run.isdecimal() or int(run) in found:
            continue
        try:
            found[int(run)] = _place(path)
        except InputError as error:
            # The process that is at the run removes the older ones, and all when it is finished.
            if path.exists():
                damaged[int(run)] = error
    for run in sorted(damaged.keys() - found.keys()):
        raise damaged[run]
    return found


def _place(path: Path) -> RunPosition:
    remedy = "remove it to have the run begun again"
    meta = read_metadata(path, remedy)
    try:
        _, about = json.loads(meta[FORMAT])
        task, tasks = about["task"], about.get("tasks")
        if type(task) is not int or type(tasks) not in (int, NoneType):
            raise TypeError(f"task {task!r} of {tasks!r}")
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(path, f"is damaged ({error!r})", remedy) from error
    return RunPosition(task, tasks)


def _machine(learner: Learner) -> dict[str, str | int]:
    """What rounding depends on."""
    engine = learner.network.front_engine()
    return {
        "device": learner.device.type,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "engine": "torch" if engine is None else version_of(engine.name),
    }


def _front_of(learner: Learner) -> dict[str, Tensor]:
    held = learner.state_dict().items()
    return {name: value for name, value in held if name.startswith(_FRONT)}


def _number(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1


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


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        # Perhaps in a shard; or it is gone, and was learned from all the same.
        return -1


def _all_frames(tasks: TaskList) -> Iterable[Any]:
    return (*tasks.tasks, tasks.test)
