"""Building the learner of a run, and what can be said of it before it is built."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from crumb.data.protocol import TaskList
from crumb.data.resize import Resize
from crumb.device import choose_device
from crumb.errors import InputError, setting
from crumb.memory.capacity import END_OF_TASK, ON_ARRIVAL, with_policy
from crumb.methods.base import Learner
from crumb.methods.persistence import load_pretrained
from crumb.methods.registry import find_method
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.fronts import use_engine
from crumb.nets.split import SplitNetwork
from crumb.stream.config import Mode, StreamConfig

OF_RUN = "{run}"
"""Stands for the number of the run in the name of a pretrained file."""
Networks = dict[tuple[NetworkConfig, int], SplitNetwork]
"""Networks as they were built, by configuration and seed; learners get copies."""


def new_learner(
    config: StreamConfig,
    network: NetworkConfig,
    method: Any,
    seed: int,
    resize: Resize = "squash",
    networks: Networks | None = None,
) -> Learner:
    """A fresh learner, from pretrained tail and codebook if asked for.

    Args:
        config: of the stream.
        network: which backbone.
        method: the method's own configuration.
        seed: number of the run.
        resize: how the data set makes images square; the learner does the same.
        networks: built so far, where several learners are made only to be looked at.

    Raises:
        InputError: a setting or a file cannot be used.
    """
    machine = config.machine
    device = choose_device(machine.device, machine.precision, machine.deterministic)
    built = _network(network, seed, networks)
    built.preprocessing = replace(built.preprocessing, resize=resize)
    built.bf16 = machine.precision == "bf16"
    kind = find_method(config.method)
    if config.mode == "strict" and not kind.strict():
        problem = f"is not for {kind.name}, which reads frames more than once"
        raise InputError(
            setting("mode", "strict"),
            problem,
            f"see crumb methods, or use {setting('mode', 'paper')}",
        )
    learner = kind(built, for_mode(config.mode, method), seed, device)
    if config.evaluation.select_best_epoch and not kind.supports_best_epoch:
        problem = f"is not for {kind.name}, which keeps more of an epoch than its weights"
        raise InputError(setting("select_best_epoch"), problem, "leave it out")
    use_engine(built, network.engine)
    if machine.compile:
        built.compile_tail()
    if config.pretrained is not None:
        load_pretrained(learner, of_run(config.pretrained, seed), config.pretrained_parts)
    return learner


def _network(config: NetworkConfig, seed: int, networks: Networks | None) -> SplitNetwork:
    if networks is None:
        return build_network(config, seed)
    if (config, seed) not in networks:
        networks[config, seed] = build_network(config, seed)
    return copy.deepcopy(networks[config, seed])


def of_run(path: Path, run: int) -> Path:
    """The file that one run starts from."""
    return Path(str(path).replace(OF_RUN, str(run)))


def for_mode(mode: Mode, method: Any) -> Any:
    """The settings of a method with which exemplars are stored when the mode lets them.

    Raises:
        InputError: they are to be stored at the end of a task, and the mode is strict.
    """
    if mode == "strict" and getattr(method, "write_policy", None) == END_OF_TASK:
        problem = f"contradicts {setting('mode', 'strict')}, which stores on arrival"
        raise InputError(setting("write_policy", END_OF_TASK), problem, "leave one of them out")
    return with_policy(method, END_OF_TASK if mode == "paper" else ON_ARRIVAL)


def check_memory(learner: Learner, tasks: TaskList) -> None:
    """Refuse at the start what the last write of the memory would refuse."""
    written = tasks.tasks if learner.tested_after_task_end else tasks.tasks[:-1]
    learner.check_tasks(len(written))
    learner.check_room(len({label for frames in written for label in frames.labels.tolist()}))
