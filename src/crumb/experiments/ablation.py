"""An ablation study: a grid of arms that each change one thing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crumb.data.index import Dataset
from crumb.data.names import canonical
from crumb.data.protocol import TaskList
from crumb.errors import InputError, setting
from crumb.experiments.arms import (
    CRUMB,
    UNABLATED,
    AblateConfig,
    Arm,
    Settings,
    arms,
    resolve,
    unablated,
)
from crumb.experiments.grid import Cell, Grid, default_folder, with_one_engine
from crumb.experiments.pretraining import PretrainedFile, Pretrainings, crumb_settings
from crumb.memory.capacity import CAPACITIES
from crumb.memory.encoded import EncodedMemory
from crumb.memory.exemplars import Exemplars
from crumb.methods.base import Learner
from crumb.methods.crumb import Crumb
from crumb.methods.crumb2 import Crumb2, Crumb2Config
from crumb.nets.config import NetworkConfig
from crumb.stream import tensorboard
from crumb.stream.job import Job
from crumb.stream.learner import Networks, new_learner, of_run
from crumb.stream.record import RunRecord
from crumb.stream.results import Results
from crumb.stream.run import broken_in, lay_out_runs, prepare, stream_job
from crumb.stream.settings import (
    CONFIG,
    PRETRAINED_RUN,
    OtherSettingsError,
    check_same,
    difference,
    read_settings,
)
from crumb.stream.tasks import open_dataset


@dataclass(frozen=True)
class Ablation:
    """The results of an ablation study.

    Attributes:
        records: finished runs of each arm by run number, the unablated run first.
        notes: why an arm cannot be run or did not finish.
        beside: the reference arm of an arm, if it is not the unablated run.
        method: the ablated method.
    """

    records: Mapping[str, list[RunRecord]]
    notes: Mapping[str, str]
    beside: Mapping[str, str] = field(default_factory=dict)
    method: str = CRUMB


@dataclass(frozen=True)
class Study:
    """A study: the shared settings of its arms, and their state.

    Attributes:
        config: configuration of the study, with the streamed classes.
        base: settings of the unablated run.
        arms: all known arms, by name.
        grid: grid of the requested arms.
        dataset: the streamed data set.
        task_lists: tasks of the streams, by run number.
        broken: problems of skipped images, if images may be skipped.
        memory_bytes: bytes of the exemplars of the unablated run; 0 if it has none.
        pretrainings: the pretrainings that arms start from.
        networks: cache of built networks.
        same: notes on arms that equal another arm, by name.
    """

    config: AblateConfig
    base: Settings
    arms: Mapping[str, Arm]
    grid: Grid
    dataset: Dataset
    task_lists: Mapping[int, TaskList]
    broken: Mapping[str, str] | None
    memory_bytes: int
    pretrainings: Pretrainings
    networks: Networks
    same: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Results folder of the study."""
        return self.grid.folder

    def job(self, name: str) -> tuple[Job, dict[int, PretrainedFile]]:
        """The runs of an arm, and the pretraining they start from.

        Raises:
            OtherSettingsError: runs in its folder started from another pretraining.
            InputError: its settings are invalid.
        """
        settings = resolve(self.arms[name], self.base, self.config, self.memory_bytes)
        stream, starts = replace(settings.stream, output=self.folder / name), {}
        if (first := settings.pretraining) is not None:
            made, network = self.pretrainings, settings.network
            file = made.file_of(self.folder / name, first, network)
            starts = {
                run: PretrainedFile(made, first, network, run, of_run(file, run))
                for run in self.task_lists
            }
            stream = replace(stream, pretrained=file, pretrained_parts=first.parts)
        parts = (settings.network, settings.method, self.dataset, self.task_lists, self.broken)
        return stream_job(stream, *parts), starts

    def arrange(self, name: str) -> tuple[Cell, tuple[Any, ...]]:
        """The checked grid cell of an arm.

        Returns:
            the cell, and all settings that affect its runs and may differ between arms. They are
                equal for equal arms.

        Raises:
            OtherSettingsError: its folder holds results with other settings.
            InputError: it cannot be run.
        """
        job, starts = self.job(name)
        file = None
        for start in [*starts.values()][:1]:
            file = self.pretrainings.file(start.pretraining, start.network)
            self.pretrainings.check(start.pretraining, start.network, self.networks)
        try:
            # The pretrained file may not exist yet, but its contents will fit.
            learner = prepare(job, self.networks, pretrained=False).learner
        except OtherSettingsError as error:
            subject, problem, _ = error.parts
            run, path = re.search(rf"{PRETRAINED_RUN}(\d+)", problem), job.config.pretrained
            if run is None or path is None:
                raise
            remedy = f"bring back or remove {of_run(path, int(run[1]))}, which will be repeated"
            raise OtherSettingsError(subject, problem, remedy) from error
        # An earlier pretraining may have another name.
        same = replace(job.config, output=None, pretrained=file)
        return Cell(name, job, starts), (same, learner.network.config, _with_effect(learner))

    def check(self, name: str) -> None:
        """Compare the settings in the folder of an arm without building a network.

        Raises:
            OtherSettingsError: the settings differ.
            InputError: this call could not run the arm.
        """
        job, _ = self.job(name)
        check_same(job.folder, crumb_settings(job), self.broken)

    def is_like(self, name: str) -> bool:
        """Whether results in the folder match the settings of the unablated run.

        Ignores what the arm may change. For arms that this call cannot set up.

        Raises:
            InputError: the settings of one of the two are damaged.
        """
        arm, free = self.arms[name], {"stream.pretrained", "stream.pretrained_parts"}
        for section in ("network", "method", "codebook", "times"):
            part = "network" if section == "network" else "method"
            free |= {f"{part}.{key}" for key in arm[section]}
        if "cut" in arm["arm"]:
            free.add("network.cut")
        own, whole = (read_settings(self.folder / one) for one in (name, UNABLATED))
        free |= {key for key in own.keys() | whole.keys() if key.startswith("files.pretrained")}
        return difference(whole, own, free=free) is None

    def look(self) -> Ablation:
        """All finished runs in the folder, including those of other calls."""
        known = self.arms
        records = {cell.name: self.grid.records(cell) for cell in self.grid.cells}
        notes = self.grid.notes() | self.same
        for name in known:
            path = self.folder / name
            if name in records or name in self.same or not (path / CONFIG).exists():
                continue
            try:
                if not (why := self._why_not_shown(name)):
                    records[name] = Results.finished_in(path)
            except InputError as error:
                why = error.in_flags()
            if why:
                notes[name] = f"is not in the tables: {why}"
        beside = {name: known[name]["about"].get("beside", UNABLATED) for name in records}
        beside = {name: other for name, other in beside.items() if other != UNABLATED}
        order = sorted(records, key=lambda name: name != UNABLATED)
        found = {name: records[name] for name in order}
        return Ablation(found, notes, beside, self.config.method)

    def _why_not_shown(self, name: str) -> str:
        """Note on an arm in the folder that this call has not run; None if the tables show it."""
        try:
            if name in self.grid.impossible:
                raise self.grid.impossible[name]
            self.check(name)
        except OtherSettingsError as error:
            return f"it {error.problem_in_flags()}"
        except InputError as error:
            return "" if self.is_like(name) else error.in_flags()
        return ""


def ablate(config: AblateConfig, network: NetworkConfig, method: Any) -> Study:
    """Do the missing runs of the study and resume interrupted ones.

    Results of earlier calls in the folder are part of the study.

    Args:
        config: configuration of the study.
        network: configuration of the backbone.
        method: configuration of the method in the unablated run.

    Raises:
        InputError: the unablated run or all arms are invalid, or the folder holds runs of an arm
            with other settings.
        KeyboardInterrupt, Terminated: a signal arrived; the same call resumes.
    """
    if config.tensorboard:
        tensorboard.check_installed()
    study = study_of(config, network, method)
    _arrange(study, (UNABLATED, *config.names))
    for _ in study.grid.fill():
        pass
    return study


def _arrange(study: Study, names: Sequence[str]) -> None:
    """The distinct arms that can be run. Adds notes on the others."""
    meanings: dict[str, Any] = {}
    for name in names:
        with study.grid.arranging(name):
            cell, meaning = study.arrange(name)
            other = next((one for one, known in meanings.items() if known == meaning), None)
            if other is None:
                meanings[name] = meaning
                study.grid.cells.append(cell)
            else:
                kind = "run" if other == UNABLATED else "arm"
                study.same[name] = f"is the {kind} {other} with these settings"
        if UNABLATED in study.grid.impossible:
            raise study.grid.impossible[UNABLATED]
    study.networks.clear()
    if len(names) > 1 and len(study.grid.cells) == 1:
        first = (study.grid.notes() | study.same)[names[1]]
        raise InputError(f"crumb ablate {names[1]}", first, "name another arm")


def study_of(config: AblateConfig, network: NetworkConfig, method: Any) -> Study:
    """The settings and data that all arms share."""
    config = _with_classes(config)
    base = unablated(config, network, method)
    dataset = open_dataset(config.dataset, config.classes)
    task_lists = lay_out_runs(config, dataset, False)
    folder = config.output or usual_folder(config, network, dataset)
    networks: Networks = {}
    folders = (*folder.glob("*"), *folder.glob("pretrained/*/*"))
    network = with_one_engine(network, config, config.first_run, folders, networks)
    base = replace(base, network=network)
    learner = new_learner(base.stream, network, method, config.first_run, networks=networks)
    broken = None
    if config.on_error == "skip":
        broken = broken_in(dataset, config, task_lists.values(), network)
    memory_bytes = 0
    if isinstance(learner, Crumb):
        assert isinstance(learner.exemplars, Exemplars)
        memory_bytes = learner.exemplars.memory.capacity_bytes
    pretrainings = Pretrainings(folder, config.first_run)
    shared = (dataset, task_lists, broken, memory_bytes, pretrainings, networks)
    return Study(config, base, arms(config.method), Grid(folder, "ablate", "arm"), *shared)


def usual_folder(config: AblateConfig, network: NetworkConfig, dataset: Dataset) -> Path:
    """Results folder of a study if none is given."""
    name = "ablate" if config.method == CRUMB else f"ablate_{config.method}"
    return default_folder(name, config, network, dataset)


def _with_classes(config: AblateConfig) -> AblateConfig:
    """The streamed classes: those not used for pretraining, if the method is pretrained.

    Raises:
        InputError: the pretraining data is not given, a class would be in both, or no class would
            be streamed.
    """
    config = replace(
        config,
        classes=tuple(map(canonical, config.classes)),
        pretrain_classes=tuple(map(canonical, config.pretrain_classes)),
    )
    if config.method != CRUMB:
        return config
    source = config.pretrain_dataset
    if source is None and not config.pretrain_classes:
        remedy = f"name some classes of the data set, or give {setting('pretrain_dataset')}"
        raise InputError(setting("pretrain_classes"), "is missing", remedy)
    known = open_dataset(source or config.dataset, ()).class_names.values()
    for name in config.pretrain_classes:
        if name not in known:
            problem, remedy = "no such class", f"choose from {', '.join(known)}"
            raise InputError(setting("pretrain_classes", name), problem, remedy)
    if source is not None and source.resolve() != config.dataset.resolve():
        return config
    if both := [name for name in config.classes if name in config.pretrain_classes]:
        problem = f"is also streamed ({setting('classes')})"
        raise InputError(
            setting("pretrain_classes", both[0]), problem, "name it in only one of them"
        )
    streamed = [name for name in known if name not in config.pretrain_classes]
    if not streamed or not config.pretrain_classes:
        problem = "leave no class to stream"
        raise InputError(setting("pretrain_classes"), problem, "name fewer classes")
    return replace(config, classes=config.classes or tuple(streamed))


def _with_effect(learner: Learner) -> Any:
    """The method settings in a form that is equal for equal runs.

    CRUMB's capacity is expressed in exemplars. How crumb2 tunes its tail has the defaults if the
    tail is frozen.
    """
    if isinstance(learner, Crumb2) and not learner.trains:
        tuning = {name: getattr(Crumb2Config, name) for name in ("tuning_epochs",)}
        return replace(learner.config, **tuning)
    if not isinstance(learner, Crumb) or not isinstance(learner.exemplars, Exemplars):
        return learner.config
    if isinstance(learner.exemplars.memory, EncodedMemory):
        # The number of exemplars in a byte budget is known only once they exist.
        return learner.config
    capacity = {**dict.fromkeys(CAPACITIES), "memory_size": learner.exemplars.memory.capacity}
    return replace(learner.config, **capacity)
