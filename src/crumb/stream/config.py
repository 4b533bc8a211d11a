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
"""Default number of epochs of the first task in paper mode."""
# Values above these limits are typing errors: the run would exhaust memory or never end.
MAX_RUNS, MAX_EPOCHS, MAX_IMAGES, MAX_WORKERS = 10_000, 1_000_000, 1 << 16, 1 << 12
_MAX_INT = (1 << 63) - 1


@dataclass(frozen=True)
class MachineConfig:
    """Machine settings. Except for bf16, they change results only by rounding."""

    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""
    precision: Precision = "full"
    """Numeric precision: full (float32), tf32 (rounds the factors of matrix products on a GPU) or
    bf16 (bfloat16; not stored in saved learners)."""
    deterministic: bool = True
    """Give bit-identical results for the same seed. A GPU is faster without it."""
    compile: bool = False
    """Compile the tail with torch.compile at the start of each run (about 15 seconds). A few steps
    are measured, and the compiled tail is used only if it is faster."""
    workers: int | None = None
    """Number of threads that read, decode and transform images. Default: one per core."""
    feature_cache: CacheKind = "auto"
    """Where to cache features: disk, memory or off. auto uses the disk, or memory if the disk is
    too full."""
    feature_cache_bytes: int = 4 << 30
    """Maximum size of the feature cache in bytes. Features beyond it are recomputed when needed."""
    feature_cache_folder: Path | None = None
    """Folder of the feature cache on disk. Default: `features` in the data set's folder."""

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.workers is not None:
            at_least("workers", self.workers, 1, MAX_WORKERS)
        at_least("feature_cache_bytes", self.feature_cache_bytes, 0)


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation settings."""

    top_k: tuple[int, ...] = (1, 5)
    """Values K of the top-K accuracies to report, capped at the number of classes seen."""
    test_batch_size: int = 32
    """Batch size of the tests. Affects results only by rounding."""
    mem_accuracy: bool = True
    """Also test on reconstructed features (a second pass through the tail)."""
    select_best_epoch: bool = False
    """After each task, restore the epoch with the best accuracy on held-out TRAINING images."""
    validation_share: float = 0.1
    """Share of each task's training images held out to select the best epoch."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for k in self.top_k:
            at_least("top_k", k, 1)
        if 1 not in self.top_k or len(set(self.top_k)) != len(self.top_k):
            raise InputError(
                setting("top_k"), "must contain 1 and no duplicates", "give for example 1 5"
            )
        at_least("test_batch_size", self.test_batch_size, 1, MAX_IMAGES)
        if not 0 < self.validation_share < 1:
            raise InputError(
                setting("validation_share", self.validation_share),
                "is not a valid share",
                "give 0 < S < 1",
            )
        if not self.select_best_epoch and self.validation_share != type(self).validation_share:
            raise InputError(
                setting("validation_share", self.validation_share),
                f"has no effect without {setting('select_best_epoch')}",
                "give both or neither",
            )


@dataclass(frozen=True)
class TasksConfig:
    """The stream: data set, order and number of epochs."""

    dataset: Annotated[Path, Argument(positional=True)]
    """Folder written by `crumb index`."""
    protocol: Protocol = "class_instance"
    """How images are divided into tasks and ordered."""
    mode: Mode = "paper"
    """paper trains each task for EPOCHS epochs, plus one pass for methods that then select
    exemplars or weight parameters. strict is online (single-pass): each frame is seen once, and
    exemplars are stored on arrival."""
    classes: tuple[str, ...] = ()
    """Classes to use. Default: all."""
    layout: TaskLayout = field(default_factory=TaskLayout)
    """Classes and images per task."""
    batch_size: int = 21
    """Batch size in images."""
    epochs_first_task: int | None = None
    """Number of epochs of the first task. Default: 10, or 1 in strict mode."""
    epochs: int = 1
    """Number of epochs of each later task."""
    pretrained: Path | None = None
    """File of `crumb pretrain` with the initial tail and codebook. {run} in its name stands for the
    run number."""
    pretrained_parts: PretrainedParts = "both"
    """Parts of that file to load: the weights of the tail, the memory blocks, or both."""
    on_error: OnError = "stop"
    """How to handle broken images: stop, or skip them and list them in skipped.csv."""
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
                given, f"has no effect without {setting('pretrained')}", "give both or neither"
            )

    def _check_mode(self) -> None:
        for name in ("epochs_first_task", "epochs") if self.mode == "strict" else ():
            value = getattr(self, name)
            if value not in (1, None):
                problem = f"contradicts {setting('mode', 'strict')}"
                raise InputError(setting(name, value), problem, f"give {setting(name, 1)}")

    @property
    def readings(self) -> tuple[int, int]:
        """Number of epochs of the first task and of each later one."""
        usual = 1 if self.mode == "strict" else USUAL_EPOCHS
        return self.epochs_first_task or usual, self.epochs


@dataclass(frozen=True)
class ProtocolConfig(TasksConfig):
    """The stream and its evaluation, over several runs."""

    runs: int = 1
    """Number of runs. A run's number is its seed."""
    first_run: int = 0
    """Number of the first run."""
    filelists: Path | None = None
    """Folder of file lists written by `crumb tasks`, to read the tasks from."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints. One is also written after each task."""
    checkpoint_batches: int | None = None
    """Batches between checkpoints, if that comes sooner."""
    stream_rate: float | None = None
    """Frames per second on a simulated clock. Frames that arrive while the learner is busy are
    lost. Needs strict mode. Default: the stream waits for the learner."""
    tensorboard: bool = False
    """Also write each finished run for TensorBoard, to `tensorboard` in the results folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_runs("first_run", self.first_run, self.runs)
        check_intervals(self.checkpoint_minutes, self.checkpoint_batches)
        self._check_rate()
        if not self.evaluation.select_best_epoch:
            return
        if self.mode == "strict":
            problem = f"contradicts {setting('mode', 'strict')}, which is single-pass"
            raise InputError(setting("select_best_epoch"), problem, "leave one of them out")
        if self.readings == (1, 1):
            raise InputError(
                setting("select_best_epoch"),
                f"has only one epoch per task to select from ({setting('epochs', 1)})",
                "use more epochs or leave it out",
            )

    def _check_rate(self) -> None:
        if (rate := self.stream_rate) is None:
            return
        require("stream_rate", rate, rate > 0, "above 0")
        if self.mode != "strict":
            problem = f"contradicts {setting('mode', self.mode)}, which repeats frames"
            given = setting("stream_rate", rate)
            raise InputError(given, problem, f"give {setting('mode', 'strict')}")


@dataclass(frozen=True)
class StreamConfig(ProtocolConfig):
    """Train a learner on a stream and test it after every epoch."""

    method: str = "crumb"
    """Learning method."""
    batch_seconds: float | None = None
    """Seconds that a batch keeps the learner busy, for STREAM_RATE. Default: measured once, and
    kept in timing.json in the results folder."""
    save_model: bool = False
    """Save the final learner of each run as learner_run<r>.safetensors."""
    save_tasks: bool = False
    """Also save the learner after each task as learner_run<r>_task<tt>.safetensors."""
    resume: Annotated[bool, Argument(hidden=True)] = False
    """Resume an earlier call with the same settings. On the command line: `crumb stream --resume
    DIR`."""
    output: Path | None = None
    """Results folder. Default: outputs/<data set>/<protocol>/<method>_<backbone>, with
    <protocol>_strict in strict mode."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (seconds := self.batch_seconds) is not None:
            require("batch_seconds", seconds, seconds >= 0, "at least 0")
            if self.stream_rate is None:
                problem = f"has no effect without {setting('stream_rate')}"
                given = setting("batch_seconds", seconds)
                raise InputError(given, problem, "give both or neither")


def shared_settings(kind: type[TasksConfig], config: TasksConfig) -> dict[str, Any]:
    """The values of all fields of a configuration class, taken from another configuration."""
    return {own.name: getattr(config, own.name) for own in fields(kind)}


def at_least(name: str, value: int, least: int, most: int = _MAX_INT) -> None:
    """Refuse a setting below ``least`` or above ``most``.

    Raises:
        InputError: the value is out of range; names the setting.
    """
    if value < least:
        raise InputError(setting(name, value), f"is below {least}", f"give at least {least}")
    if value > most:
        raise InputError(setting(name, value), f"is above {most}", f"give at most {most}")


def check_runs(name: str, first: int, count: int = 1) -> None:
    """Refuse run numbers that are not 32-bit seeds, and too many runs.

    Args:
        name: name of the setting that gave ``first``.
        first: number of the first run.
        count: number of runs.

    Raises:
        InputError: the value is out of range; names the setting.
    """
    at_least("runs", count, 1, MAX_RUNS)
    at_least(name, first, 0)
    if first + count > 1 << 32:
        remedy = f"give at most {(1 << 32) - count}"
        raise InputError(setting(name, first), "is too large", remedy)


def check_intervals(minutes: float, batches: int | None) -> None:
    """Refuse invalid intervals between checkpoints.

    Raises:
        InputError: the value is out of range; names the setting.
    """
    require("checkpoint_minutes", minutes, minutes > 0, "above 0")
    if batches is not None:
        at_least("checkpoint_batches", batches, 1)
