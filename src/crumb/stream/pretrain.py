"""Pretrain the tail and the codebook (Talbot et al. 2025, section III-D)."""

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
    """Train tail and codebook on all classes at once with the sum of both losses.

    One task in the shuffled order of the published ``iid`` list of run ``config.first_run``, for
    ``config.epochs_first_task`` epochs. Nothing is stored or replayed.

    Returns:
        the results folder. The file :data:`PRETRAINED` in it holds the learner, for
            ``--pretrained``.

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
    """The job of :func:`pretrain`.

    Args:
        config: configuration of the pretraining.
        network: configuration of the backbone.
        method: CRUMB's settings.
        dataset: the configured data set, if already open.
    """
    dataset = dataset or open_dataset(config.dataset, config.classes)
    everything = TaskLayout(images_per_task=len(dataset.index))
    tasks = tasks_of(replace(config, layout=everything), dataset, config.first_run, True)
    nothing = dict.fromkeys(CAPACITIES)
    method = replace(method, storage="none", replay_times=0, **nothing)
    folder = config.output or Path("outputs") / dataset.name / f"pretrain_{network.backbone}"
    runs = {config.first_run: tasks}
    return Job("pretrain", config, network, method, dataset, runs, folder, PRETRAINED)
