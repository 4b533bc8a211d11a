"""The ablation study: CRUMB with one thing changed at a time, filled in any number of calls.

What an arm is pretrained with is made once for each run, and found again by its content: the digest
of all the settings and data that it depends on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from crumb.data.index import Dataset
from crumb.data.protocol import TaskList
from crumb.errors import DivergedError, InputError, Terminated
from crumb.memory.exemplars import Exemplars
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.nets.config import NetworkConfig
from crumb.stream.arms import (
    UNABLATED,
    AblateConfig,
    Pretraining,
    Settings,
    arms,
    resolve,
    unablated,
)
from crumb.stream.features import FeatureStore
from crumb.stream.pretrain import PRETRAINED, pretrain_job
from crumb.stream.record import RunRecord
from crumb.stream.results import BusyError, OtherSettingsError, Results
from crumb.stream.run import (
    OF_RUN,
    Job,
    broken_in,
    carry_out,
    lay_out_runs,
    new_learner,
    of_run,
    open_dataset,
    prepare,
    settings_of,
    stream_job,
)

_DIGITS = 16
"""Of the digests that name folders; 64 bits."""
_WAIT = 2.0
"""Seconds until a pretraining that another call is at is looked at again."""


@dataclass(frozen=True)
class Ablation:
    """What a study has come to.

    Attributes:
        records: finished runs of each arm, by number of the run; the one that is whole first.
        notes: why an arm cannot be run, or what became of it.
    """

    records: Mapping[str, list[RunRecord]]
    notes: Mapping[str, str]


@dataclass(frozen=True)
class Arrangement:
    """What one arm has to do.

    Attributes:
        job: its runs.
        pretraining: None to begin with the stock weights.
        results: its folder.
    """

    job: Job
    pretraining: Pretraining | None
    results: Results


@dataclass
class Study:
    """What the arms have in common.

    Attributes:
        config: of the study, with the classes that are streamed.
        base: the run that is whole.
        folder: of the study.
        dataset: that is streamed.
        task_lists: of the streams, by number of the run.
        broken: what is wrong with images that are left out, if any are to be.
        memory_bytes: of the exemplars of the run that is whole.
        pretrained: file of each pretraining that was asked for, with {run} in its name.
        diverged: pretrained files that there cannot be, and why.
        streamed: features of streams.
        pretrained_on: features of pretraining.
    """

    config: AblateConfig
    base: Settings
    folder: Path
    dataset: Dataset
    task_lists: Mapping[int, TaskList]
    broken: Mapping[str, str] | None
    memory_bytes: int
    pretrained: dict[tuple[Pretraining, NetworkConfig], Path] = field(default_factory=dict)
    diverged: dict[Path, DivergedError] = field(default_factory=dict)
    streamed: dict[str, FeatureStore] = field(default_factory=dict)
    pretrained_on: dict[str, FeatureStore] = field(default_factory=dict)

    def arrange(self, name: str) -> Arrangement:
        """What an arm has to do; all of it that can be checked is.

        Raises:
            InputError: it cannot be run, or its folder holds results of other settings.
        """
        settings = resolve(arms()[name], self.base, self.config, self.memory_bytes)
        stream, pretraining = replace(settings.stream, output=self.folder / name), None
        network, method = settings.network, settings.method
        if (pretraining := settings.pretraining) is not None:
            path = self.pretrained_file(pretraining, network)
            stream = replace(stream, pretrained=path, pretrained_parts=pretraining.parts)
        job = stream_job(stream, network, method, self.dataset, self.task_lists, self.broken)
        # The file may not be there yet; what it will hold fits.
        bare = replace(stream, pretrained=None, pretrained_parts="both")
        learner = prepare(replace(job, config=bare, folder=self.folder / _NOWHERE)).learner
        results = Results(job.folder, settings_of(job, learner), resume=True, skipped=self.broken)
        return Arrangement(job, pretraining, results)

    def pretrained_file(self, pretraining: Pretraining, network: NetworkConfig) -> Path:
        """Where a pretraining leaves its file; by its content, so that equal ones are one.

        Raises:
            InputError: it cannot be run.
        """
        key = (pretraining, network)
        if key not in self.pretrained:
            folder = self.folder / "pretrained"
            stream = replace(pretraining.stream, output=folder / _NOWHERE)
            stream = replace(stream, first_run=self.config.first_run)
            digest = prepare(pretrain_job(stream, network, pretraining.method)).results.digest
            self.pretrained[key] = folder / digest[:_DIGITS] / f"run{OF_RUN}" / PRETRAINED
        return self.pretrained[key]

    def run(self, arrangement: Arrangement) -> None:
        """Do what is left of an arm.

        Raises:
            BusyError: another call is at it.
            DivergedError: of pretraining or stream.
        """
        job = arrangement.job
        if arrangement.pretraining is not None:
            for run in job.task_lists:
                self._pretrain(job, arrangement.pretraining, run)
        carry_out(job, self.streamed)

    def _pretrain(self, job: Job, pretraining: Pretraining, run: int) -> None:
        """Make the file that one run starts from, unless it is there."""
        assert job.config.pretrained is not None
        path = of_run(job.config.pretrained, run)
        if path in self.diverged:
            raise self.diverged[path]
        stream = replace(pretraining.stream, first_run=run, output=path.parent)
        while not path.exists():
            _tell(f"pretraining, run {run}: {path.parent}")
            try:
                carry_out(pretrain_job(stream, job.network, pretraining.method), self.pretrained_on)
            except BusyError:
                time.sleep(_WAIT)
            except DivergedError as error:
                self.diverged[path] = error
                raise

    def records(self, arrangement: Arrangement) -> list[RunRecord]:
        """The finished runs of an arm among those that are asked for."""
        finished = arrangement.results.finished()
        return [record for record in finished if record.run in self.task_lists]


_NOWHERE = "none"
_CANNOT = "cannot be run"
_IS_WHOLE = f"is the run {UNABLATED} with these settings"


def ablate(config: AblateConfig, network: NetworkConfig, method: CrumbConfig) -> Ablation:
    """Run what is not done yet, and go on with what was interrupted.

    Several calls may work on one folder at a time: each leaves an arm that another is at, and comes
    back to it. What earlier calls have left in the folder is part of the study.

    Args:
        config: of the study.
        network: which backbone.
        method: CRUMB's settings, of the run that is whole.

    Raises:
        InputError: the run that is whole or none of the arms can be run; data or disk fail one; the
            folder holds runs with other settings. What is finished is kept.
        KeyboardInterrupt, Terminated: a signal came; the same call goes on from there.
    """
    asked = (UNABLATED, *config.names)
    study = study_of(config, network, method)
    notes: dict[str, str] = {}
    arranged = _arranged(study, [*asked, *_earlier(study.folder, asked)], notes)
    if len(asked) > 1 and all(name in notes for name in asked[1:]):
        raise InputError(f"crumb ablate {asked[1]}", notes[asked[1]], "name another arm")
    waiting = [name for name in asked if name in arranged]
    while waiting:
        busy = _run(study, arranged, waiting, notes)
        # Where every one of them is another call's, waiting for it is of no use.
        if len(busy) == len(waiting):
            notes |= dict.fromkeys(busy, "is being run by another call")
            break
        waiting = busy
    return Ablation({name: study.records(one) for name, one in arranged.items()}, notes)


def study_of(config: AblateConfig, network: NetworkConfig, method: CrumbConfig) -> Study:
    """What the arms share; errors as its parts."""
    config = _with_classes(config)
    base = unablated(config, network, method)
    dataset = open_dataset(config.dataset, config.classes)
    task_lists = lay_out_runs(config, dataset, False)
    learner = new_learner(base.stream, network, method, config.first_run)
    broken = None
    if config.on_error == "skip":
        broken = broken_in(dataset, config, task_lists.values(), learner)
    assert isinstance(learner, Crumb)
    assert isinstance(learner.exemplars, Exemplars)
    memory_bytes = learner.exemplars.memory.capacity_bytes
    folder = config.output or default_folder(config, network, dataset)
    return Study(config, base, folder, dataset, task_lists, broken, memory_bytes)


def default_folder(config: AblateConfig, network: NetworkConfig, dataset: Dataset) -> Path:
    """outputs/<data set>/ablate_<protocol>_<mode>_<backbone>."""
    name = f"ablate_{config.protocol}_{config.mode}_{network.backbone}"
    return Path("outputs") / dataset.name / name


def _with_classes(config: AblateConfig) -> AblateConfig:
    """The classes that are streamed: none that was pretrained on.

    Raises:
        InputError: it is not said what to pretrain on; a class would be in both, or none streamed.
    """
    source = config.pretrain_dataset
    if source is None and not config.pretrain_classes:
        remedy = "name some of the data set, or give --pretrain-dataset"
        raise InputError("--pretrain-classes", "is missing", remedy)
    known = open_dataset(source or config.dataset, ()).class_names.values()
    for name in config.pretrain_classes:
        if name not in known:
            problem, remedy = "no such class", f"name some of {', '.join(known)}"
            raise InputError(f"--pretrain-classes {name}", problem, remedy)
    if source is not None and source.resolve() != config.dataset.resolve():
        return config
    if both := [name for name in config.classes if name in config.pretrain_classes]:
        problem = "is streamed as well (--classes)"
        raise InputError(f"--pretrain-classes {both[0]}", problem, "name it in one of them")
    streamed = [name for name in known if name not in config.pretrain_classes]
    if not streamed or not config.pretrain_classes:
        problem = "leave none to be streamed"
        raise InputError("--pretrain-classes", problem, "name some of the data set")
    return replace(config, classes=config.classes or tuple(streamed))


def _earlier(folder: Path, asked: Sequence[str]) -> list[str]:
    """Arms that are in the folder and were not asked for now."""
    found = {path.parent.name for path in folder.glob("*/config.toml")}
    return [name for name in arms() if name in found and name not in asked]


def _arranged(study: Study, names: Sequence[str], notes: dict[str, str]) -> dict[str, Arrangement]:
    """The arms that can be run and differ from the run that is whole; of the others it is noted.

    Raises:
        InputError: the run that is whole cannot be run; results in the folder were made with other
            settings.
    """
    found: dict[str, Arrangement] = {}
    for name in names:
        try:
            arrangement = study.arrange(name)
        except OtherSettingsError as error:
            remedy = "ablate with the same settings, or give another --output"
            raise InputError(study.folder / name, error.parts[1], remedy) from error
        except InputError as error:
            if name == UNABLATED:
                raise
            notes[name] = f"{_CANNOT}: {error}"
            continue
        whole = found.get(UNABLATED)
        if whole is not None and arrangement.results.digest == whole.results.digest:
            notes[name] = _IS_WHOLE
        else:
            found[name] = arrangement
    return found


def _run(
    study: Study,
    arranged: Mapping[str, Arrangement],
    names: Sequence[str],
    notes: dict[str, str],
) -> list[str]:
    """Do what is left of these arms; those that another call is at are returned."""
    busy: list[str] = []
    for number, name in enumerate(names):
        _tell(f"{number + 1} of {len(names)}: {name}")
        try:
            study.run(arranged[name])
        except BusyError:
            busy.append(name)
        except DivergedError as error:
            notes[name] = f"diverged: {error}"
        except (KeyboardInterrupt, Terminated) as signalled:
            # How to go on with the one arm is of no help: the same call goes on with all.
            signalled.args = ()
            raise
    return busy


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")
