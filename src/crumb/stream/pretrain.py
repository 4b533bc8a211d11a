"""Pretraining the tail and the codebook (Talbot et al. 2025, section III-D)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from crumb.data.index import Dataset
from crumb.data.protocol import TaskLayout
from crumb.memory.capacity import CAPACITIES
from crumb.methods.crumb import CrumbConfig
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig
from crumb.stream.job import Job
from crumb.stream.results import Results
from crumb.stream.run import carry_out
from crumb.stream.tasks import open_dataset, tasks_of

PRETRAINED = "pretrained.safetensors"


def pretrain(config: StreamConfig, network: NetworkConfig, method: CrumbConfig) -> Results:
    """Train tail and codebook on all classes at once, on the sum of both losses.

    One task, in the shuffled order of the published ``iid`` list of the run; nothing is stored
    and nothing replayed. ``config.epochs_first_task`` readings of ``config.first_run``.

    Returns:
        the results folder; the learner is :data:`PRETRAINED` in it, for ``--pretrained``.

    Raises:
        InputError, KeyboardInterrupt, Terminated: as :func:`crumb.stream.run.stream`.
    """
    return carry_out(pretrain_job(config, network, method), {})


def pretrain_job(
    config: StreamConfig,
    network: NetworkConfig,
    method: CrumbConfig,
    dataset: Dataset | None = None,
) -> Job:
    """What :func:`pretrain` has to do; errors of the data set as its own.

    Args:
        config: of the pretraining.
        network: which backbone.
        method: CRUMB's settings.
        dataset: that of the configuration, if it is open.
    """
    dataset = dataset or open_dataset(config.dataset, config.classes)
    everything = TaskLayout(images_per_task=len(dataset.index))
    tasks = tasks_of(replace(config, layout=everything), dataset, config.first_run, True)
    nothing = dict.fromkeys(CAPACITIES)
    method = replace(method, storage="none", replay_times=0, **nothing)
    folder = config.output or Path("outputs") / dataset.name / f"pretrain_{network.backbone}"
    runs = {config.first_run: tasks}
    return Job("pretrain", config, network, method, dataset, runs, folder, PRETRAINED)
