"""Build the learner of a run, and check what can be checked before."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from crumb.data.protocol import TaskList
from crumb.data.resize import Resize
from crumb.device import choose_device
from crumb.errors import InputError, setting
from crumb.memory.capacity import by_mode, second_pass
from crumb.methods.base import Learner
from crumb.methods.persistence import load_pretrained
from crumb.methods.registry import find_method
from crumb.nets.backbones import build_network
from crumb.nets.compiled import keep_if_faster
from crumb.nets.config import NetworkConfig
from crumb.nets.fronts import use_engine
from crumb.nets.split import SplitNetwork
from crumb.progress import announce
from crumb.stream.config import MachineConfig, Mode, StreamConfig

OF_RUN = "{run}"
"""Placeholder of the run number in the name of a pretrained file."""
Networks = dict[tuple[NetworkConfig, int], SplitNetwork]
"""Cache of built networks by configuration and seed; learners get copies."""


def new_learner(
    config: StreamConfig,
    network: NetworkConfig,
    method: Any,
    seed: int,
    resize: Resize = "squash",
    networks: Networks | None = None,
    or_torch: bool = False,
) -> Learner:
    """Build a fresh learner, with pretrained tail and codebook if requested.

    Args:
        config: configuration of the stream.
        network: configuration of the backbone.
        method: configuration of the method.
        seed: seed, the number of the run.
        resize: how images are made square, as in the data set.
        networks: cache of built networks, for learners that are only checked.
        or_torch: use torch where the engine cannot be used here.

    Raises:
        InputError: a setting or a file is invalid.
    """
    machine = config.machine
    device = choose_device(machine.device, machine.precision, machine.deterministic)
    built = _network(network, seed, networks)
    built.preprocessing = replace(built.preprocessing, resize=resize)
    built.bf16 = machine.precision == "bf16"
    kind = find_method(config.method)
    if config.mode == "strict" and not kind.strict():
        problem = f"cannot be used with {kind.name}, which reads frames more than once"
        raise InputError(
            setting("mode", "strict"),
            problem,
            f"see crumb methods, or use {setting('mode', 'paper')}",
        )
    learner = kind(built, for_mode(config.mode, method), seed, device)
    if config.evaluation.select_best_epoch and not learner.supports_best_epoch:
        problem = f"cannot be used with {kind.name}, whose state is more than its weights"
        raise InputError(setting("select_best_epoch"), problem, "leave it out")
    use_engine(built, network.engine, or_torch)
    if machine.compile and not learner.trains:
        announce(f"compile: {kind.name} trains nothing, so the tail is not compiled")
    elif machine.compile:
        built.compile_tail()
        keep_if_faster(built, config.batch_size)
    if config.pretrained is not None:
        load_pretrained(learner, of_run(config.pretrained, seed), config.pretrained_parts)
    return learner


def with_settled_engine(
    network: NetworkConfig, machine: MachineConfig, seed: int, networks: Networks
) -> NetworkConfig:
    """A network whose engine is what ``auto`` comes to on this machine.

    Args:
        network: configuration of the backbone.
        machine: where and how exactly it computes.
        seed: of the weights, where they are random.
        networks: cache of built networks.

    Raises:
        InputError: the network cannot be built.
    """
    device = choose_device(machine.device, machine.precision, machine.deterministic)
    built = _network(network, seed, networks).to(device)
    built.bf16 = machine.precision == "bf16"
    use_engine(built, network.engine)
    built.front_engine()
    return replace(network, engine=built.config.engine)


def _network(config: NetworkConfig, seed: int, networks: Networks | None) -> SplitNetwork:
    if networks is None:
        return build_network(config, seed)
    # Networks are built with torch, whatever engine they get.
    key = replace(config, engine="torch"), seed
    if key not in networks:
        networks[key] = build_network(config, seed)
    return copy.deepcopy(networks[key])


def of_run(path: Path, run: int) -> Path:
    """The pretrained file of one run."""
    return Path(str(path).replace(OF_RUN, str(run)))


def for_mode(mode: Mode, method: Any) -> Any:
    """Method settings with as many passes over a task as the mode allows.

    Raises:
        InputError: a setting takes a second pass, but the mode is strict.
    """
    strict = mode == "strict"
    if strict and (found := second_pass(method)):
        name, given, single = found
        problem = f"contradicts {setting('mode', 'strict')}, which needs {setting(name, single)}"
        raise InputError(setting(name, given), problem, "leave one of them out")
    return by_mode(method, strict)


def check_memory(learner: Learner, tasks: TaskList) -> None:
    """Refuse settings at the start that the last write of the memory would refuse."""
    # Statistics of a class need room as soon as it arrives.
    every = learner.tested_after_task_end or learner.total_counts
    written = tasks.tasks if every else tasks.tasks[:-1]
    learner.check_tasks(len(written))
    learner.check_room(len({label for frames in written for label in frames.labels.tolist()}))
