"""iLab-2M-Light and CORe50 as one data set, whose classes come in two blocks.

Numbers and rules are those published with CRUMB, except for one mistake: the published lists of
class ids contain the class semi, which has no images. So most runs lose a real class: one task has
a single class, and 23 classes are left. Here the lists contain the existing classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd

from crumb.data.index import Dataset, load_dataset
from crumb.data.sets.base import About, Sample, Source, register
from crumb.data.sets.core50 import CLASS_NAMES
from crumb.data.sets.ilab import CLASSES, DROPPED_CLASS
from crumb.errors import InputError
from crumb.files import WRITE_REMEDY
from crumb.kinds import Argument

ILAB_CLASSES = tuple(name for name in CLASSES if name != DROPPED_CLASS)
ILAB, CORE50 = "ilab2mlight", "core50"
CLASS_SHIFT, SESSION_SHIFT = 15, 11
_CLIP = ["class", "object", "session"]


@register
@dataclass(frozen=True, kw_only=True)
class IlabCore50(Source):
    """iLab-2M-Light, then CORe50, from the two folders that `crumb index` wrote.

    Nothing is copied: the images folder links to the images of both.
    """

    name: ClassVar[str] = "ilab2mlight+core50"
    about: ClassVar[About] = About(
        title="iLab-2M-Light and CORe50",
        content="images of 24 classes, 14 of iLab-2M-Light and 10 of CORe50",
        size="nothing beyond those two",
        licence="those of the two data sets",
        page="see those of the two data sets",
        download="none: index the two data sets first",
    )
    published: ClassVar[Mapping[str, int]] = {
        "images per class": 825,
        "images per session": 15,
        "sessions per class": 55,
        "sessions in all": 1320,
        "classes": 24,
        "images": 19800,
    }
    published_classes: ClassVar[tuple[str, ...]] = (*ILAB_CLASSES, *CLASS_NAMES.values())

    root: Annotated[Path, Argument(positional=True)]
    """Folder written by `crumb index ilab2mlight`; it is only read."""
    core50: Path
    """Folder written by `crumb index core50`; it is only read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.keep_apart(self.core50)

    def sample(self) -> Sample:
        """Number both data sets as one, and balance training and test clips separately.

        iLab's sessions follow CORe50's (12 to 19), CORe50's classes follow iLab's (16 to 25).
        Objects keep their numbers. The class order is shuffled within each of the two blocks.

        Raises:
            InputError: one of the folders holds another data set, numbers would clash, a class has
                no training or test clip, or a link cannot be made.
        """
        ilab, core50 = _opened(self.root, ILAB), _opened(self.core50, CORE50)
        _check_numbers(ilab, core50)
        index = pd.concat(
            [_renumbered(ilab, 0, SESSION_SHIFT), _renumbered(core50, CLASS_SHIFT, 0)]
        )
        shifted = {number + CLASS_SHIFT: name for number, name in core50.class_names.items()}
        class_names = ilab.class_names | shifted
        ilab_tests = [session + SESSION_SHIFT for session in ilab.test_sessions]
        test_sessions = tuple(sorted([*core50.test_sessions, *ilab_tests]))
        balanced, left_out = balance(index, class_names, test_sessions)
        images = self.folder / "images"
        for dataset in (ilab, core50):
            _link(images / dataset.name, dataset.images.resolve())
        groups = (tuple(ilab.class_names), tuple(shifted))
        return Sample(images, balanced, class_names, test_sessions, left_out, groups)


def balance(
    index: pd.DataFrame, class_names: Mapping[int, str], test_sessions: tuple[int, ...]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Reduce all classes to the smallest number of training clips and of test clips.

    The clips of a class are drawn with the class id as the seed.

    Args:
        index: columns ``crumb.data.index.COLUMNS``.
        class_names: name of each class id of the index.
        test_sessions: sessions whose clips are test clips.

    Returns:
        the index ordered by class, object, session, im_num; and lines about the training and
        test clips that are left out, if any.

    Raises:
        InputError: a class has no training or no test clip.
    """
    is_test = index["session"].isin(test_sessions).to_numpy()
    kept, lines = [], []
    for purpose, part in (("train", index.loc[~is_test]), ("test", index.loc[is_test])):
        drawn, surplus = _draw(part, class_names, purpose)
        kept.append(drawn)
        if surplus:
            lines.append(f"clips to {purpose} on beyond the number that each class has: {surplus}")
    balanced = pd.concat(kept).sort_values([*_CLIP, "im_num"], kind="stable")
    return balanced.reset_index(drop=True), tuple(lines)


def _draw(
    part: pd.DataFrame, class_names: Mapping[int, str], purpose: str
) -> tuple[pd.DataFrame, int]:
    """The rows of equally many clips of each class, and the number of clips left out."""
    clips = np.unique(part[_CLIP].to_numpy(), axis=0)
    of_class = {number: clips[clips[:, 0] == number] for number in class_names}
    for number, found in of_class.items():
        if not len(found):
            problem = f"has no clip to {purpose} on"
            raise InputError(f"class {class_names[number]}", problem, "index its data set again")
    fewest = min(map(len, of_class.values()))
    drawn = {
        tuple(clip)
        for number, found in of_class.items()
        for clip in np.random.RandomState(number).permutation(found)[:fewest].tolist()
    }
    keys = part[_CLIP].itertuples(index=False, name=None)
    return part.loc[[key in drawn for key in keys]], len(clips) - len(drawn)


def _opened(folder: Path, name: str) -> Dataset:
    """The data set in a folder, which must have that name."""
    dataset = load_dataset(folder)
    if dataset.name != name:
        problem = f"holds the data set {dataset.name}"
        raise InputError(folder, problem, f"give the folder that `crumb index {name}` wrote")
    return dataset


def _check_numbers(ilab: Dataset, core50: Dataset) -> None:
    """Raise InputError if the shifted numbers or the names of the two data sets would clash."""
    if both := sorted(set(ilab.class_names.values()) & set(core50.class_names.values())):
        raise InputError(core50.folder, f"has the class {both[0]} as well", "rename it in one")
    for dataset, what, found, last in (
        (ilab, "class", max(ilab.class_names), CLASS_SHIFT),
        (core50, "session", max(core50.index["session"].tolist()), SESSION_SHIFT),
    ):
        if found > last:
            problem = f"has the {what} number {found}, above {last}"
            raise InputError(dataset.folder, problem, f"index {dataset.name} again")


def _renumbered(dataset: Dataset, class_shift: int, session_shift: int) -> pd.DataFrame:
    """The index with other class and session numbers, and paths below a folder of its name."""
    index = dataset.index
    return index.assign(
        **{
            "class": index["class"] + class_shift,
            "session": index["session"] + session_shift,
            "im_path": f"{dataset.name}/" + index["im_path"],
        }
    )


def _link(link: Path, target: Path) -> None:
    """Make a link to a folder atomically and replace an earlier link.

    Raises:
        InputError: something else has this name, or the file system does not support links.
    """
    temporary = link.with_name(f".{link.name}.part")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(link)
    except OSError as error:
        problem = f"cannot be made a link to {target} ({error.strerror})"
        raise InputError(link, problem, WRITE_REMEDY) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
