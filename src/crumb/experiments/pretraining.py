"""Pretrainings that the arms of an ablation study start from.

Each is made once per run and identified by a digest of all settings and data that affect it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crumb.data.index import Dataset
from crumb.data.shards import member_size
from crumb.errors import InputError, setting
from crumb.experiments.arms import Pretraining
from crumb.files import read_toml
from crumb.methods.crumb_config import CrumbConfig, resolved
from crumb.nets.backbones import settled
from crumb.nets.config import NetworkConfig
from crumb.stream.job import Job, settings_of
from crumb.stream.learner import OF_RUN, Networks, for_mode
from crumb.stream.pretrain import PRETRAINED, pretrain_job
from crumb.stream.run import prepare
from crumb.stream.settings import (
    CONFIG,
    OtherSettingsError,
    check_same,
    digest,
    read_settings,
    recorded,
)
from crumb.stream.tasks import open_dataset

_DIGITS = 16
"""Hexadecimal digits of the digests in folder names (64 bits)."""
_FOLDER = "pretrained"
_IMAGES = "images"
"""Settings section with the digest of the images."""


@dataclass(frozen=True)
class PretrainedFile:
    """The file that one run starts from: a :class:`~crumb.experiments.grid.Start`."""

    pretrainings: Pretrainings
    pretraining: Pretraining
    network: NetworkConfig
    run: int
    file: Path

    def job(self) -> Job:
        """The job that makes it."""
        job = self.pretrainings.job(self.pretraining, self.network, self.run)
        folder = self.file.parent
        return replace(job, folder=folder, config=replace(job.config, output=folder))


class Pretrainings:
    """All pretrainings of a study.

    Args:
        folder: results folder of the study.
        first_run: number of its first run.
    """

    def __init__(self, folder: Path, first_run: int) -> None:
        self._folder = folder / _FOLDER
        self._first_run = first_run
        self._files: dict[tuple[Pretraining, NetworkConfig], Path] = {}
        self._checked: set[tuple[Pretraining, NetworkConfig]] = set()
        self._datasets: dict[tuple[Path, tuple[str, ...]], tuple[Dataset, str]] = {}

    def job(self, pretraining: Pretraining, network: NetworkConfig, run: int) -> Job:
        """The job of one pretraining run, with a placeholder folder.

        Raises:
            InputError: its data set is unusable.
        """
        stream = pretraining.stream
        key = (stream.dataset, stream.classes)
        if key not in self._datasets:
            dataset = open_dataset(*key)
            self._datasets[key] = dataset, names_and_sizes(dataset)
        dataset, images = self._datasets[key]
        stream = replace(stream, first_run=run, output=self._folder / "none")
        job = pretrain_job(stream, network, pretraining.method, dataset)
        return replace(job, more={_IMAGES: {"names_and_sizes": images}})

    def check(self, pretraining: Pretraining, network: NetworkConfig, networks: Networks) -> None:
        """Check a pretraining before it starts.

        Args:
            pretraining: the pretraining to check.
            network: configuration of the backbone.
            networks: cache of built networks.

        Raises:
            InputError: it cannot be run.
        """
        if (key := (pretraining, network)) not in self._checked:
            prepare(self.job(*key, self._first_run), networks)
            self._checked.add(key)

    def file(self, pretraining: Pretraining, network: NetworkConfig) -> Path:
        """Path of a pretraining's file, with {run} in its name; equal pretrainings share it.

        Raises:
            InputError: its settings are invalid.
        """
        key = (pretraining, network)
        if key not in self._files:
            name = _digest(self.job(pretraining, network, self._first_run))
            self._files[key] = self._file(name)
        return self._files[key]

    def file_of(self, folder: Path, pretraining: Pretraining, network: NetworkConfig) -> Path:
        """The same for an arm, which may have runs in its folder.

        An earlier version of Crumb may have named the file of the same pretraining differently.

        Raises:
            OtherSettingsError: the runs started from another or no pretraining.
        """
        path = self.file(pretraining, network)
        if not (folder / CONFIG).exists():
            return path
        known = read_settings(folder).get("stream.pretrained")
        if known is None:
            raise _other(folder, "starts from no pretraining")
        name = Path(known).parent.parent.name
        if name == path.parent.parent.name:
            return path
        there = sorted((self._folder / name).glob(f"run[0-9]*/{CONFIG}"))
        for found in there[:1]:
            run = int(found.parent.name.removeprefix("run"))
            job = self.job(pretraining, network, run)
            # Made by a version that did not compare images.
            more = job.more if _IMAGES in read_toml(found, "remove its folder") else None
            try:
                check_same(found.parent, crumb_settings(replace(job, more=more)))
            except OtherSettingsError as error:
                problem = error.parts[1]
                if f"{_IMAGES}." in problem:
                    problem = "read images of other names or sizes"
                raise _other(folder, f"starts from a pretraining that {problem}") from error
        job = self.job(pretraining, network, self._first_run)
        if not there and name != _digest(replace(job, more=None)):
            raise _other(folder, f"starts from another pretraining, {_FOLDER}/{name}")
        return self._file(name)

    def _file(self, name: str) -> Path:
        return self._folder / name / f"run{OF_RUN}" / PRETRAINED


def crumb_settings(job: Job) -> dict[str, Any]:
    """All settings that affect the results of a job of an ablation, without building a network.

    Raises:
        InputError: a setting is invalid.
    """
    backbone, network = settled(job.network)
    method = for_mode(job.config.mode, job.method)
    if isinstance(method, CrumbConfig):
        method = resolved(method, backbone)
    return settings_of(job, network, method)


def names_and_sizes(dataset: Dataset) -> str:
    """Digest of the names and sizes of a data set's images (the index has only names)."""
    found = hashlib.sha256()
    for path in dataset.index["im_path"]:
        found.update(f"{path}\n{_bytes(dataset.images / path)}\n".encode())
    return found.hexdigest()


def _digest(job: Job) -> str:
    return digest(recorded(crumb_settings(job)))[:_DIGITS]


def _other(folder: Path, problem: str) -> OtherSettingsError:
    remedy = f"use the same settings or another {setting('output')}"
    return OtherSettingsError(folder.name, problem, remedy)


def _bytes(path: Path) -> int:
    """Size of an image, which may be in a tar file; -1 if unknown."""
    try:
        size = member_size(path)
        return path.stat().st_size if size is None else size
    except (OSError, InputError):
        return -1
