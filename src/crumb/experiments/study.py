"""What the arms of an ablation study have in common, and what each of them has to do.

What an arm is pretrained with is made once for each run, and found again by its content: the digest
of all the settings and data that it depends on.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crumb.data.index import Dataset
from crumb.data.protocol import TaskList
from crumb.data.shards import member_size
from crumb.errors import DivergedError, InputError, setting
from crumb.experiments.arms import UNABLATED, AblateConfig, Arm, Pretraining, Settings, resolve
from crumb.features.features import FeatureStore
from crumb.files import read_toml, try_lock
from crumb.memory.capacity import CAPACITIES
from crumb.memory.encoded import EncodedMemory
from crumb.memory.exemplars import Exemplars
from crumb.methods.base import Learner
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.nets.config import NetworkConfig
from crumb.stream import tensorboard
from crumb.stream.config import StreamConfig
from crumb.stream.pretrain import PRETRAINED, pretrain_job
from crumb.stream.progress import tell
from crumb.stream.results import (
    CONFIG,
    FILELISTS_RUN,
    PRETRAINED_RUN,
    BusyError,
    OtherSettingsError,
    Results,
    has_effect,
    read_settings,
)
from crumb.stream.run import (
    OF_RUN,
    Job,
    carry_out,
    of_run,
    open_dataset,
    prepare,
    settings_of,
    stream_job,
)

_DIGITS = 16
"""Of the digests that name folders; 64 bits."""
_PRETRAINED, _NOWHERE = "pretrained", "none"
"""Folder of what is pretrained in that of the study; one that is never made."""
_IMAGES = "images"
"""Section of the settings of a pretraining that holds the digest of its images."""


class PretrainingBusyError(BusyError):
    """Another call is at the pretraining that an arm waits for."""


@dataclass(frozen=True)
class Arrangement:
    """What one arm has to do.

    Attributes:
        job: its runs.
        pretraining: None to begin with the stock weights.
        results: its folder.
        meaning: all that its runs depend on and that another arm may have otherwise; those of arms
            that are the same are equal.
    """

    job: Job
    pretraining: Pretraining | None
    results: Results
    meaning: tuple[Any, ...]

    def file(self, run: int) -> Path | None:
        """The pretrained file that a run starts from; there or not."""
        path = self.job.config.pretrained
        return None if path is None else of_run(path, run)

    def has_file(self, run: int) -> bool:
        """Whether there is all that a run starts from."""
        path = self.file(run)
        return path is None or path.exists()

    def of_runs(self, runs: Iterable[int]) -> Job:
        """The job, of some of its runs only."""
        task_lists = {run: self.job.task_lists[run] for run in runs}
        first = min(task_lists)
        config = replace(self.job.config, first_run=first, runs=max(task_lists) - first + 1)
        return replace(self.job, config=config, task_lists=task_lists)


@dataclass
class Study:
    """What the arms have in common.

    Attributes:
        config: of the study, with the classes that are streamed.
        base: the run that is whole.
        arms: every one that there is, by name.
        folder: of the study.
        dataset: that is streamed.
        task_lists: of the streams, by number of the run.
        broken: what is wrong with images that are left out, if any are to be.
        memory_bytes: of the exemplars of the run that is whole.
        pretrained: file of each pretraining that was asked for, with {run} in its name.
        diverged: pretrained files that there cannot be, and why.
        images: digest of the images of each pretraining.
        streamed: features of streams.
        pretrained_on: features of pretraining.
    """

    config: AblateConfig
    base: Settings
    arms: Mapping[str, Arm]
    folder: Path
    dataset: Dataset
    task_lists: Mapping[int, TaskList]
    broken: Mapping[str, str] | None
    memory_bytes: int
    pretrained: dict[tuple[Pretraining, NetworkConfig], Path] = field(default_factory=dict)
    diverged: dict[Path, DivergedError] = field(default_factory=dict)
    images: dict[tuple[Path, tuple[str, ...]], str] = field(default_factory=dict)
    streamed: dict[str, FeatureStore] = field(default_factory=dict)
    pretrained_on: dict[str, FeatureStore] = field(default_factory=dict)

    # What an arm has to do.

    def arrange(self, name: str) -> Arrangement:
        """What an arm has to do; all of it that can be checked is.

        Raises:
            OtherSettingsError: its folder holds results of other settings.
            InputError: it cannot be run.
        """
        settings = resolve(self.arms[name], self.base, self.config, self.memory_bytes)
        network, method = settings.network, settings.method
        stream, path = replace(settings.stream, output=self.folder / name), None
        if (pretraining := settings.pretraining) is not None:
            path = self.pretrained_file(pretraining, network)
            begun = self._begun_from(name, path, pretraining, network)
            stream = replace(stream, pretrained=begun, pretrained_parts=pretraining.parts)
        job = stream_job(stream, network, method, self.dataset, self.task_lists, self.broken)
        # The file may not be there yet; what it will hold fits.
        bare = replace(stream, pretrained=None, pretrained_parts="both")
        learner = prepare(replace(job, config=bare, folder=self.folder / _NOWHERE)).learner
        results = self._results(job, learner)
        same = replace(stream, output=None, pretrained=path)
        meaning = (same, learner.network.config, _in_exemplars(learner))
        return Arrangement(job, pretraining, results, meaning)

    def _results(self, job: Job, learner: Learner) -> Results:
        try:
            return Results(job.folder, settings_of(job, learner), resume=True, skipped=self.broken)
        except OtherSettingsError as error:
            subject, problem, _ = error.parts
            run, path = re.search(rf"{PRETRAINED_RUN}(\d+)", problem), job.config.pretrained
            if run is None or path is None:
                raise
            remedy = f"bring back or remove {of_run(path, int(run[1]))}, which is made again"
            raise OtherSettingsError(subject, problem, remedy) from error

    def pretrained_file(self, pretraining: Pretraining, network: NetworkConfig) -> Path:
        """Where a pretraining leaves its file; by its content, so that equal ones are one.

        Raises:
            InputError: it cannot be run.
        """
        key = (pretraining, network)
        if key not in self.pretrained:
            digest = self._digest(self._pretrain_job(pretraining, network, self.config.first_run))
            folder = self.folder / _PRETRAINED / digest
            self.pretrained[key] = folder / f"run{OF_RUN}" / PRETRAINED
        return self.pretrained[key]

    def _pretrain_job(
        self, pretraining: Pretraining, network: NetworkConfig, run: int, output: Path | None = None
    ) -> Job:
        output = output or self.folder / _PRETRAINED / _NOWHERE
        stream = replace(pretraining.stream, first_run=run, output=output)
        job = pretrain_job(stream, network, pretraining.method)
        return replace(job, more={_IMAGES: {"names_and_sizes": self._images_of(stream)}})

    def _digest(self, job: Job) -> str:
        return prepare(job).results.digest[:_DIGITS]

    def _images_of(self, stream: StreamConfig) -> str:
        """Digest of the names and sizes of the images of a pretraining: the index has no more."""
        key = (stream.dataset, stream.classes)
        if key not in self.images:
            dataset = open_dataset(*key)
            found = hashlib.sha256()
            for path in dataset.index["im_path"]:
                found.update(f"{path}\n{_bytes(dataset.images / path)}\n".encode())
            self.images[key] = found.hexdigest()
        return self.images[key]

    def _begun_from(
        self, name: str, path: Path, pretraining: Pretraining, network: NetworkConfig
    ) -> Path:
        """The pretrained file that the runs of an arm in the folder have started from.

        Its folder may have the name that an earlier Crumb gave the same pretraining.

        Raises:
            OtherSettingsError: it is of another pretraining, or of none.
        """
        config = self.folder / name / CONFIG
        if not config.exists():
            return path
        recorded = read_settings(self.folder / name).get("stream.pretrained")
        if recorded is None:
            raise _other(name, "starts from no pretraining")
        digest = Path(recorded).parent.parent.name
        if digest == path.parent.parent.name:
            return path
        folder = self.folder / _PRETRAINED / digest
        job = self._pretrain_job(pretraining, network, self.config.first_run)
        there = sorted(folder.glob(f"run*/{CONFIG}"))
        for found in there[:1]:
            # Before it looked at the images.
            more = job.more if _IMAGES in read_toml(found, "remove its folder") else None
            try:
                prepare(replace(job, folder=found.parent, more=more))
            except OtherSettingsError as error:
                problem = error.parts[1]
                if f"{_IMAGES}." in problem:
                    problem = "read images of other names or sizes"
                raise _other(name, f"starts from a pretraining that {problem}") from error
        if not there and digest != self._digest(replace(job, more=None)):
            raise _other(name, f"starts from another pretraining, {_PRETRAINED}/{digest}")
        return folder / f"run{OF_RUN}" / PRETRAINED

    # Doing it.

    def run(self, arrangement: Arrangement) -> dict[int, DivergedError]:
        """Do what is left of an arm.

        Returns:
            why runs diverged, by number; that does not keep the others from being done.

        Raises:
            BusyError: another call is at it, or at what it is pretrained with.
            InputError: anything else that it cannot be done with.
        """
        job, diverged = arrangement.job, {}
        finished = arrangement.results.finished()
        if self.config.tensorboard:
            tensorboard.write_missing(finished, job.folder)
        done, left = {record.run for record in finished}, []
        to_do = [run for run in job.task_lists if run not in done]
        # What follows builds networks before it looks.
        if to_do and _is_locked(job.folder):
            raise BusyError(job.folder, "is being written by another call", "wait for it")
        for run in to_do:
            try:
                self._pretrain(arrangement, run)
                left.append(run)
            except DivergedError as error:
                diverged[run] = error
        while left:
            # Those that are finished stay in the settings that are written, where they can.
            kept = {run for run in done if run in job.task_lists and arrangement.has_file(run)}
            runs = [run for run in job.task_lists if run in kept or run in left]
            try:
                self._stream(arrangement, runs)
                break
            except DivergedError as error:
                done = {record.run for record in arrangement.results.finished()}
                stopped = next(run for run in left if run not in done)
                diverged[stopped] = error
                left = left[left.index(stopped) + 1 :]
        return diverged

    def _stream(self, arrangement: Arrangement, runs: Iterable[int]) -> None:
        job = arrangement.of_runs(runs)
        try:
            carry_out(job, self.streamed)
        except InputError as error:
            subject, problem, _ = error.parts
            if subject in {str(arrangement.file(run)) for run in job.task_lists}:
                raise InputError(subject, problem, "remove it: it is made again") from error
            raise

    def _pretrain(self, arrangement: Arrangement, run: int) -> None:
        """Make the file that one run starts from, unless it is there."""
        path = arrangement.file(run)
        if path is None or path.exists():
            return
        assert arrangement.pretraining is not None
        if path in self.diverged:
            raise self.diverged[path]
        if _is_locked(path.parent):
            raise PretrainingBusyError(path.parent, "is being made by another call", "wait for it")
        tell(f"pretraining, run {run}: {path.parent}")
        job = self._pretrain_job(
            arrangement.pretraining, arrangement.job.network, run, output=path.parent
        )
        try:
            carry_out(job, self.pretrained_on)
        except BusyError as error:
            raise PretrainingBusyError(*error.parts) from error
        except DivergedError as error:
            self.diverged[path] = error
            raise

    def is_like(self, name: str) -> bool:
        """Whether results in the folder have the settings of the run that is whole.

        But for what their arm may change: for those that this call cannot arrange.

        Raises:
            InputError: the settings of one of the two are damaged.
        """
        arm, free = self.arms[name], {"stream.pretrained", "stream.pretrained_parts"}
        for section in ("network", "method", "codebook"):
            part = "method" if section == "codebook" else section
            free |= {f"{part}.{key}" for key in arm[section]}
        if "cut" in arm["arm"]:
            free.add("network.cut")
        own, whole = (read_settings(self.folder / one) for one in (name, UNABLATED))
        return all(
            own.get(key) == whole.get(key)
            for key in own.keys() | whole.keys()
            if key not in free and not key.startswith("files.pretrained") and has_effect(key)
            # Lists of runs that one of the two has not begun.
            if not (
                key.startswith(f"files.{FILELISTS_RUN}") and None in (own.get(key), whole.get(key))
            )
        )


def _other(name: str, problem: str) -> OtherSettingsError:
    return OtherSettingsError(
        name, problem, f"use the same settings or another {setting('output')}"
    )


def _in_exemplars(learner: Learner) -> CrumbConfig:
    """The settings of a method with its capacity in exemplars, however it was given."""
    assert isinstance(learner, Crumb)
    if not isinstance(learner.exemplars, Exemplars):
        return learner.config
    if isinstance(learner.exemplars.memory, EncodedMemory):
        # How many exemplars its bytes hold shows only when they are there.
        return learner.config
    capacity = {**dict.fromkeys(CAPACITIES), "memory_size": learner.exemplars.memory.capacity}
    return replace(learner.config, **capacity)


def _bytes(path: Path) -> int:
    """Of an image, which may be in a tar file; -1 where that cannot be told."""
    try:
        size = member_size(path)
        return path.stat().st_size if size is None else size
    except (OSError, InputError):
        return -1


def _is_locked(folder: Path) -> bool:
    """Whether another process writes results in a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)
