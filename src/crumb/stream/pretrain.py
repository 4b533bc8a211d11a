"""Pretraining the tail and the codebook (Talbot et al. 2025, section III-D)."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from crumb.data.protocol import TaskLayout
from crumb.methods.crumb import CrumbConfig
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig
from crumb.stream.loop import Plan, run_once
from crumb.stream.results import Results
from crumb.stream.run import new_learner, open_dataset, open_store
from crumb.stream.tasks import epochs_of, held_out, tasks_of

PRETRAINED = "pretrained.safetensors"


def pretrain(config: StreamConfig, network: NetworkConfig, method: CrumbConfig) -> Results:
    """Train tail and codebook on all classes at once, on the sum of both losses.

    One task, in the shuffled order of the published ``iid`` list of the run; nothing is stored
    and nothing replayed. ``config.epochs_first_task`` readings of ``config.first_run``.

    Returns:
        the results folder; the learner is :data:`PRETRAINED` in it, for ``--pretrained``.

    Raises:
        InputError: as :func:`crumb.stream.run.stream`.
    """
    dataset = open_dataset(config.dataset, config.classes)
    everything = TaskLayout(images_per_task=len(dataset.index))
    tasks = tasks_of(replace(config, layout=everything), dataset, config.first_run, True)
    method = replace(method, storage="none", memory_size=None, memory_bytes=None, replay_times=0)
    learner = new_learner(config, network, method, config.first_run)
    folder = config.output or Path("outputs") / dataset.name / f"pretrain_{network.backbone}"
    sections: dict[str, Any] = {
        "stream": config,
        "network": learner.network.config,
        "method": learner.config,
    }
    epochs = epochs_of(config, tasks)
    held = held_out(config, tasks, epochs)
    results = Results(folder, {name: asdict(part) for name, part in sections.items()})
    with results:
        store = open_store(learner, config, dataset, [tasks], {})
        record = run_once(Plan(tasks, epochs, held, config.batch_size, learner, store, config))
        learner.save(folder / PRETRAINED)
        results.add(record)
    return results
