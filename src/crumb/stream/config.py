"""Settings of a run. The dataclasses are the flags, their defaults and their help."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from crumb.data.protocol import TaskLayout
from crumb.device import Precision
from crumb.errors import InputError, require, setting
from crumb.features.kinds import CacheKind
from crumb.kinds import Argument, check_kinds
from crumb.methods.training import PretrainedParts

OnError = Literal["stop", "skip"]
Protocol = Literal["iid", "class_iid", "instance", "class_instance"]
Mode = Literal["paper", "strict"]

USUAL_EPOCHS = 10
"""Of the first task, where each frame may be shown more than once."""
# What is above these is a slip: it would not fit into memory, or never end.
MAX_RUNS, MAX_EPOCHS, MAX_IMAGES, MAX_WORKERS = 10_000, 1_000_000, 1 << 16, 1 << 12
_MAX_INT = (1 << 63) - 1


@dataclass(frozen=True)
class MachineConfig:
    """How the machine is used; results are the same up to rounding, but for bf16."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "full"
    """full is float32; tf32 rounds the factors of products on a GPU; bf16 computes in bfloat16
    (a saved learner does not remember it)."""
    deterministic: bool = True
    """The same seed gives the same bytes; a GPU is faster without."""
    compile: bool = False
    """Compile the trained part at the start of each run: takes some 15 seconds, then some networks
    are faster and others slower."""
    workers: int | None = None
    """Threads that read, decode and compute images; one for each core by default."""
    feature_cache: CacheKind = "auto"
    """Where features are kept that are computed once: on disk, in memory, or nowhere (off).
    auto is on disk, or in memory where the disk has no room."""
    feature_cache_bytes: int = 4 << 30
    """Bytes of features to keep; the others are computed whenever they are needed."""
    feature_cache_folder: Path | None = None
    """Folder of the features on disk; `features` in the data set's folder by default."""

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.workers is not None:
            at_least("workers", self.workers, 1, MAX_WORKERS)
        at_least("feature_cache_bytes", self.feature_cache_bytes, 0)


@dataclass(frozen=True)
class EvaluationConfig:
    """How a learner is tested."""

    top_k: tuple[int, ...] = (1, 5)
    """Accuracies: the true class among the K best (K is capped at the classes seen)."""
    test_batch_size: int = 32
    """Images scored at a time; changes how sums are rounded, at most."""
    mem_accuracy: bool = True
    """Test on reconstructed features as well (a second pass through the tail)."""
    select_best_epoch: bool = False
    """After each task go back to the epoch that did best on held-out TRAINING images."""
    validation_share: float = 0.1
    """Share of each task's training images held out for that."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for k in self.top_k:
            at_least("top_k", k, 1)
        if 1 not in self.top_k or len(set(self.top_k)) != len(self.top_k):
            raise InputError(
                setting("top_k"), "must hold 1 and no number twice", "give for example 1 5"
            )
        at_least("test_batch_size", self.test_batch_size, 1, MAX_IMAGES)
        if not 0 < self.validation_share < 1:
            raise InputError(
                setting("validation_share", self.validation_share), "is no share", "give 0 < S < 1"
            )
        if not self.select_best_epoch and self.validation_share != type(self).validation_share:
            raise InputError(
                setting("validation_share", self.validation_share),
                f"is of no use without {setting('select_best_epoch')}",
                "give both or neither",
            )


@dataclass(frozen=True)
class TasksConfig:
    """What is streamed, in which order and how often."""

    dataset: Annotated[Path, Argument(positional=True)]
    """Folder written by `crumb index`."""
    protocol: Protocol = "class_instance"
    """How images are ordered into tasks."""
    mode: Mode = "paper"
    """paper reads tasks as often as EPOCHS say, and once more for methods that choose exemplars or
    weigh parameters then; strict shows each frame once, and exemplars are stored on arrival."""
    classes: tuple[str, ...] = ()
    """Only these classes of the data set."""
    layout: TaskLayout = field(default_factory=TaskLayout)
    """Sizes of the tasks."""
    batch_size: int = 21
    """Images per batch."""
    epochs_first_task: int | None = None
    """Readings of the first task; 10 by default, and 1 in strict mode."""
    epochs: int = 1
    """Readings of every later task."""
    pretrained: Path | None = None
    """Start from the tail and codebook in this file of `crumb pretrain`; {run} in its name is the
    number of the run."""
    pretrained_parts: PretrainedParts = "both"
    """What of it: the weights of the tail, the memory blocks, or both."""
    on_error: OnError = "stop"
    """What to do about broken images: stop, or leave them out and list them in skipped.csv."""
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        check_kinds(self)
        at_least("batch_size", self.batch_size, 1, MAX_IMAGES)
        if self.epochs_first_task is not None:
            at_least("epochs_first_task", self.epochs_first_task, 1, MAX_EPOCHS)
        at_least("epochs", self.epochs, 1, MAX_EPOCHS)
        self._check_mode()
        if self.pretrained is None and self.pretrained_parts != "both":
            given = setting("pretrained_parts", self.pretrained_parts)
            raise InputError(
                given, f"is of no use without {setting('pretrained')}", "give both or neither"
            )

    def _check_mode(self) -> None:
        for name in ("epochs_first_task", "epochs") if self.mode == "strict" else ():
            value = getattr(self, name)
            if value not in (1, None):
                problem = f"contradicts {setting('mode', 'strict')}"
                raise InputError(setting(name, value), problem, f"give {setting(name, 1)}")

    @property
    def readings(self) -> tuple[int, int]:
        """How often the first task is read, and every later one."""
        usual = 1 if self.mode == "strict" else USUAL_EPOCHS
        return self.epochs_first_task or usual, self.epochs


@dataclass(frozen=True)
class ProtocolConfig(TasksConfig):
    """What is streamed, in which order, how often, and how it is tested."""

    runs: int = 1
    """How many runs; the number of a run is its seed."""
    first_run: int = 0
    """Number of the first run."""
    filelists: Path | None = None
    """Read the tasks from lists that `crumb tasks` wrote, instead of laying them out."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint_minutes: float = 10.0
    """Minutes between two checkpoints; one is also written after each task."""
    checkpoint_batches: int | None = None
    """Batches between two checkpoints, if that is sooner."""
    tensorboard: bool = False
    """Write each finished run for TensorBoard as well, into `tensorboard` in its results folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_runs("first_run", self.first_run, self.runs)
        check_intervals(self.checkpoint_minutes, self.checkpoint_batches)
        if not self.evaluation.select_best_epoch:
            return
        if self.mode == "strict":
            problem = f"contradicts {setting('mode', 'strict')}, which reads each task once"
            raise InputError(setting("select_best_epoch"), problem, "leave one of them out")
        if self.readings == (1, 1):
            raise InputError(
                setting("select_best_epoch"),
                "has nothing to select from where every task is read once "
                f"({setting('epochs', 1)})",
                "read tasks more often, or leave it out",
            )


@dataclass(frozen=True)
class StreamConfig(ProtocolConfig):
    """Stream a data set through a learner and test it after every epoch."""

    method: str = "crumb"
    """Learning method."""
    save_model: bool = False
    """Keep the learner of each run, as learner_run<r>.safetensors."""
    save_tasks: bool = False
    """Keep the learner after each task as well, as learner_run<r>_task<tt>.safetensors."""
    resume: Annotated[bool, Argument(hidden=True)] = False
    """Go on where an earlier call with the same settings stopped; on the command line
    `crumb stream --resume DIR`."""
    output: Path | None = None
    """Results folder; outputs/<data set>/<protocol>/<method>_<backbone> by default, with
    <protocol>_strict in strict mode."""


def shared_settings(kind: type[TasksConfig], config: TasksConfig) -> dict[str, Any]:
    """The settings that a kind of configuration has, as they are in another, by name."""
    return {own.name: getattr(config, own.name) for own in fields(kind)}


def at_least(name: str, value: int, least: int, most: int = _MAX_INT) -> None:
    """Refuse a setting below ``least`` or above ``most``.

    Raises:
        InputError: naming the setting.
    """
    if value < least:
        raise InputError(setting(name, value), f"is below {least}", f"give at least {least}")
    if value > most:
        raise InputError(setting(name, value), f"is above {most}", f"give at most {most}")


def check_runs(name: str, first: int, count: int = 1) -> None:
    """Refuse numbers of runs that are no seeds of 32 bits, and more runs than can be laid out.

    Args:
        name: of the setting that gave ``first``.
        first: number of the first run.
        count: of runs.

    Raises:
        InputError: naming the setting.
    """
    at_least("runs", count, 1, MAX_RUNS)
    at_least(name, first, 0)
    if first + count > 1 << 32:
        remedy = f"give at most {(1 << 32) - count}"
        raise InputError(setting(name, first), "is too large", remedy)


def check_intervals(minutes: float, batches: int | None) -> None:
    """Refuse intervals between checkpoints that are none.

    Raises:
        InputError: naming the setting.
    """
    require("checkpoint_minutes", minutes, minutes > 0, "above 0")
    if batches is not None:
        at_least("checkpoint_batches", batches, 1)
