"""Load saved learners and test images for the analyses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crumb.codebook.codebook import Codebook
from crumb.data.index import Dataset
from crumb.data.protocol import Frames, TaskList
from crumb.errors import InputError
from crumb.features.features import FeatureStore
from crumb.memory.exemplars import ChosenExemplars
from crumb.methods.base import Learner
from crumb.methods.crumb import Crumb
from crumb.methods.persistence import load_learner
from crumb.stream.config import MachineConfig, ProtocolConfig
from crumb.stream.feed import Reading
from crumb.stream.run import open_store

BATCH_SIZE = 32
"""Images analysed at a time."""
_NAME = re.compile(r"learner_run(\d+)(?:_task(\d+))?\.safetensors")
_ENDINGS = (".png", ".jpg", ".jpeg", ".JPEG")


@dataclass(frozen=True)
class SavedRun:
    """Learner files of one run.

    Attributes:
        run: its number.
        end: the learner after the last task.
        tasks: the learner after each task, by number from 1; empty where they were not kept.
    """

    run: int
    end: Path
    tasks: dict[int, Path]


def saved_runs(paths: Sequence[Path], flag: str) -> list[SavedRun]:
    """The runs that files belong to, by number.

    A file is ``learner_run<r>.safetensors``, or ``learner_run<r>_task<t>.safetensors`` after task
    t, as ``crumb stream`` writes them; any other name is a run of its own.

    Args:
        paths: paths of files of learners, or of results folders that hold some.
        flag: the flag that gave them, for messages.

    Raises:
        InputError: a folder without a learner, or two files that are the same learner by name.
    """
    runs: dict[int, dict[int, Path]] = {}
    for number, path in enumerate(_files(paths)):
        match = _NAME.fullmatch(path.name)
        run, task = (int(match[1]), int(match[2] or 0)) if match else (number, 0)
        files = runs.setdefault(run, {})
        if task in files:
            problem = f"is of run {run}, as is {files[task]}"
            remedy = "give the runs of one results folder"
            raise InputError(f"{flag} {path}", problem, remedy)
        files[task] = path
    found = []
    for run, files in sorted(runs.items()):
        tasks = {task: files[task] for task in sorted(files) if task}
        found.append(SavedRun(run, files.get(0) or tasks[max(tasks)], tasks))
    return found


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        held = sorted(path.glob("learner_run*.safetensors"))
        if not held:
            remedy = "stream without --no-save-model, or with --save-tasks"
            raise InputError(path, "holds no learner_run*.safetensors", remedy)
        files += held
    return files


class TestImages:
    """The test images of a data set, as the learners of one front see them.

    Args:
        dataset: whose test sessions are read.
        device: on which features are wanted.
        stylised: root folder of other pictures of the same names, to be read in their place.

    Raises:
        InputError: there is no such picture of a test image.
    """

    # Not a test case for pytest.
    __test__ = False

    def __init__(self, dataset: Dataset, device: str, stylised: Path | None = None) -> None:
        index = dataset.index
        rows = index[index["session"].isin(dataset.test_sessions)]
        self._names = [dataset.class_names[number] for number in rows["class"].tolist()]
        paths = rows["im_path"].tolist()
        self._folder = dataset.folder
        if stylised is not None:
            paths = [_stylised(stylised, path) for path in paths]
            dataset = replace(dataset, images=stylised)
        self._paths, self._dataset = paths, dataset
        machine = MachineConfig(device=device)
        self._config = ProtocolConfig(dataset=dataset.folder, machine=machine)
        self._stores: dict[str, FeatureStore] = {}

    @property
    def images(self) -> Path:
        """Root folder of the paths."""
        return self._dataset.images

    def frames(self, classes: Sequence[str]) -> Frames:
        """The test images of these classes in the order of the index; labels index into them.

        Raises:
            InputError: a class without test images.
        """
        for name in classes:
            if name not in self._names:
                problem = f"has no test image of class {name!r}"
                remedy = "give the data set that the learner was streamed on"
                raise InputError(f"--dataset {self._folder}", problem, remedy)
        places = [place for place, name in enumerate(self._names) if name in set(classes)]
        label_of = {name: label for label, name in enumerate(classes)}
        labels = np.array([label_of[self._names[place]] for place in places], dtype=np.int64)
        return Frames(tuple(self._paths[place] for place in places), labels)

    def reading(self, learner: Learner, frames: Frames | None = None) -> Reading:
        """The test images of the classes that a learner has met, or some of them."""
        chosen = self.frames(learner.classes) if frames is None else frames
        every = Frames(tuple(self._paths), np.zeros(len(self._paths), np.int64))
        tasks = TaskList("iid", 0, False, (), every, ())
        store = open_store(learner, self._config, self._dataset, [tasks], self._stores)
        return Reading(chosen, store, BATCH_SIZE)


def _stylised(folder: Path, path: str) -> str:
    """The path of the picture that stands for an image: the same, or with another ending."""
    plain = Path(path)
    for other in (plain, *(plain.with_suffix(ending) for ending in _ENDINGS)):
        if (folder / other).is_file():
            return other.as_posix()
    remedy = "lay the folder out like the data set's images"
    raise InputError(f"--stylised {folder}", f"has no picture of {path}", remedy)


def open_learner(path: Path, device: str) -> Learner:
    """A saved learner that has learned something.

    Raises:
        InputError: it cannot be loaded, or knows no class.
    """
    learner = load_learner(path, device)
    if not learner.classes:
        raise InputError(path, "knows no class", "give a learner that crumb stream saved")
    return learner


def codebook_of(learner: Learner) -> Codebook | None:
    """The codebook of a learner; None if it has none."""
    return learner.codebook if isinstance(learner, Crumb) else None


def stored_codes(learner: Learner) -> dict[str, np.ndarray]:
    """The block indices of the exemplars of each class that has any, int64 [n, N], by name."""
    if codebook_of(learner) is None:
        return {}
    exemplars = getattr(learner, "exemplars", None)
    if not isinstance(exemplars, ChosenExemplars):
        return {}
    memory = exemplars.memory
    return {
        learner.classes[label]: memory.class_rows(label).cpu().numpy().astype(np.int64)
        for label in memory.counts
    }


def codebook_before(path: Path, like: Learner, device: str) -> Codebook:
    """The codebook of an earlier learner of the same network.

    Raises:
        InputError: it has none, or is of another backbone, cut or codebook size.
    """
    before = load_learner(path, device)
    codebook, own = codebook_of(before), codebook_of(like)
    if codebook is None or own is None:
        raise InputError(f"--before {path}", "has no codebook", "leave it out")
    for key in ("backbone", "cut"):
        given, wanted = (getattr(one.network.config, key) for one in (before, like))
        if given != wanted:
            problem = f"has {key} {given}, the learner {wanted}"
            raise InputError(f"--before {path}", problem, "give the file that the run started from")
    if codebook.blocks.shape != own.blocks.shape:
        sizes = [tuple(one.blocks.shape) for one in (codebook, own)]
        problem = f"has a codebook of {sizes[0]}, the learner of {sizes[1]}"
        raise InputError(f"--before {path}", problem, "give the file that the run started from")
    return codebook
