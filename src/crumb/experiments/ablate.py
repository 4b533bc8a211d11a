"""The ablation study: CRUMB with one thing changed at a time, filled in any number of calls."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from crumb.data.index import Dataset
from crumb.errors import InputError, Terminated, setting
from crumb.experiments.arms import UNABLATED, AblateConfig, arms, unablated
from crumb.experiments.study import Arrangement, PretrainingBusyError, Study
from crumb.memory.exemplars import Exemplars
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.nets.config import NetworkConfig
from crumb.stream import tensorboard
from crumb.stream.progress import tell
from crumb.stream.record import RunRecord
from crumb.stream.results import CONFIG, PRETRAINED_RUN, BusyError, OtherSettingsError, Results
from crumb.stream.run import broken_in, lay_out_runs, new_learner, open_dataset

_WAIT = 2.0
"""Seconds until a pretraining that another call is at is looked at again."""
_BUSY, _CANNOT, _NOT_SHOWN = (
    "is being run by another call",
    "cannot be run",
    "is not in the tables",
)


@dataclass(frozen=True)
class Ablation:
    """What a study has come to.

    Attributes:
        records: finished runs of each arm, by number of the run; the one that is whole first.
        notes: why an arm cannot be run, or what became of it.
        beside: the arm that an arm is compared with, where that is not the run that is whole.
    """

    records: Mapping[str, list[RunRecord]]
    notes: Mapping[str, str]
    beside: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """A study of which a call has done what it could.

    Attributes:
        study: all that its arms have in common.
        arranged: the arms that were asked for and can be run; then others that are in the folder.
        notes: as of :class:`Ablation`.
        failure: what the first arm that failed failed with, if one did.
    """

    study: Study
    arranged: dict[str, Arrangement]
    notes: dict[str, str]
    failure: InputError | None = None

    def fail(self, name: str, error: InputError) -> None:
        """Note that an arm failed; the first that does is the failure of the call."""
        self.notes[name] = f"failed: {error.in_flags()}"
        subject, problem, remedy = error.parts
        self.failure = self.failure or InputError(f"arm {name}: {subject}", problem, remedy)

    def look(self) -> Ablation:
        """All finished runs that are in the folder now, those of other calls as well."""
        folder, records = self.study.folder, {}
        there = {path.parent.name for path in folder.glob(f"*/{CONFIG}")}
        for name in [name for name in self.study.arms if name in there]:
            note = self.notes.get(name, "")
            if note.startswith(_CANNOT):
                self._look_at(name, note, records)
            elif not note and name not in self.arranged:
                try:
                    _arrange(self, name)
                except OtherSettingsError as error:
                    self.notes[name] = f"{_NOT_SHOWN}: it {error.parts[1]}"
                except InputError as error:
                    self._look_at(name, error.in_flags(), records)
        for name, one in self.arranged.items():
            try:
                records[name] = one.results.finished()
            except InputError as error:
                self.fail(name, error)
                continue
            numbers = {record.run for record in records[name]}
            if self.notes.get(name) == _BUSY and numbers.issuperset(self.study.task_lists):
                del self.notes[name]
        known = self.study.arms
        beside = {name: known[name]["about"].get("beside", UNABLATED) for name in records}
        beside = {name: other for name, other in beside.items() if other != UNABLATED}
        order = sorted(records, key=lambda name: name != UNABLATED)
        return Ablation({name: records[name] for name in order}, dict(self.notes), beside)

    def _look_at(self, name: str, why: str, records: dict[str, list[RunRecord]]) -> None:
        """The runs of an arm that this call cannot go on with, and why it cannot."""
        try:
            if self.study.is_like(name):
                records[name] = Results.finished_in(self.study.folder / name)
                return
        except InputError as error:
            why = error.in_flags()
        self.notes[name] = f"{_NOT_SHOWN}: {why}"


def ablate(config: AblateConfig, network: NetworkConfig, method: CrumbConfig) -> Outcome:
    """Run what is not done yet, and go on with what was interrupted.

    Several calls may work on one folder at a time: each leaves an arm that another is at, and comes
    back to it. What earlier calls have left in the folder is part of the study. An arm that fails
    does not keep the others from being run.

    Args:
        config: of the study.
        network: which backbone.
        method: CRUMB's settings, of the run that is whole.

    Raises:
        InputError: the run that is whole fails, or none of the arms can be run; the folder holds
            runs of an arm with other settings. What is finished is kept.
        KeyboardInterrupt, Terminated: a signal came; the same call goes on from there.
    """
    if config.tensorboard:
        tensorboard.check_installed()
    asked = (UNABLATED, *config.names)
    outcome = Outcome(study_of(config, network, method), {}, {})
    _arrange_all(outcome, asked)
    if len(asked) > 1 and all(name in outcome.notes for name in asked[1:]):
        first = outcome.notes[asked[1]]
        raise InputError(f"crumb ablate {asked[1]}", first, "name another arm")
    waiting, said = [*outcome.arranged], False
    while waiting:
        busy = _run(outcome, waiting)
        others = [name for name, error in busy.items() if isinstance(error, PretrainingBusyError)]
        # Where every one of them is another call's, waiting for it is of no use.
        if len(busy) == len(waiting) and not others:
            outcome.notes |= dict.fromkeys(busy, _BUSY)
            break
        if len(busy) == len(waiting):
            if not said:
                tell("waiting for what another call pretrains")
            said = True
            time.sleep(_WAIT)
        waiting = [*busy]
    return outcome


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
    return Study(config, base, arms(), folder, dataset, task_lists, broken, memory_bytes)


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
        remedy = f"name some of the data set, or give {setting('pretrain_dataset')}"
        raise InputError(setting("pretrain_classes"), "is missing", remedy)
    known = open_dataset(source or config.dataset, ()).class_names.values()
    for name in config.pretrain_classes:
        if name not in known:
            problem, remedy = "no such class", f"name some of {', '.join(known)}"
            raise InputError(setting("pretrain_classes", name), problem, remedy)
    if source is not None and source.resolve() != config.dataset.resolve():
        return config
    if both := [name for name in config.classes if name in config.pretrain_classes]:
        problem = f"is streamed as well ({setting('classes')})"
        raise InputError(setting("pretrain_classes", both[0]), problem, "name it in one of them")
    streamed = [name for name in known if name not in config.pretrain_classes]
    if not streamed or not config.pretrain_classes:
        problem = "leave none to be streamed"
        raise InputError(setting("pretrain_classes"), problem, "name some of the data set")
    return replace(config, classes=config.classes or tuple(streamed))


def _arrange_all(outcome: Outcome, names: Sequence[str]) -> None:
    """The arms that can be run and differ from each other; of the others it is noted.

    Raises:
        InputError: the run that is whole cannot be run; results in the folder were made with other
            settings.
    """
    for name in names:
        try:
            _arrange(outcome, name)
        except OtherSettingsError as error:
            _, problem, remedy = error.parts
            if PRETRAINED_RUN not in problem:
                remedy = f"ablate with the same settings, or give another {setting('output')}"
            raise InputError(outcome.study.folder / name, problem, remedy) from error
        except InputError as error:
            if name == UNABLATED:
                raise
            outcome.notes[name] = f"{_CANNOT}: {error.in_flags()}"


def _arrange(outcome: Outcome, name: str) -> None:
    """Arrange an arm, unless it is one of those before; errors as of the study."""
    arrangement = outcome.study.arrange(name)
    for other, one in outcome.arranged.items():
        if one.meaning == arrangement.meaning:
            kind = "run" if other == UNABLATED else "arm"
            outcome.notes[name] = f"is the {kind} {other} with these settings"
            return
    outcome.arranged[name] = arrangement


def _run(outcome: Outcome, names: Sequence[str]) -> dict[str, BusyError]:
    """Do what is left of these arms; those that another call is at are returned."""
    busy: dict[str, BusyError] = {}
    for number, name in enumerate(names):
        tell(f"{number + 1} of {len(names)}: {name}")
        try:
            diverged = outcome.study.run(outcome.arranged[name])
            if diverged:
                said = [f"run {run}: {error.in_flags()}" for run, error in sorted(diverged.items())]
                outcome.notes[name] = f"diverged: {'; '.join(said)}"
        except BusyError as error:
            busy[name] = error
        except InputError as error:
            if name == UNABLATED:
                raise
            outcome.fail(name, error)
        except (KeyboardInterrupt, Terminated) as signalled:
            # How to go on with the one arm is of no help: the same call goes on with all.
            signalled.args = ()
            raise
    return busy
